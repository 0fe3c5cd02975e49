#include "json.h"

#include <charconv>
#include <utility>

#include "errors.h"

namespace torchtrt {
namespace {

constexpr int kDeepest = 64;

// Where `text` stops being UTF-8 (no surrogates, no longer forms than needed, nothing over U+10FFFF), or npos.
size_t first_not_utf8(std::string_view text) {
  const auto byte = [&](size_t at) { return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u; };
  const auto continues = [&](size_t at, unsigned low = 0x80, unsigned high = 0xBF) {
    return byte(at) >= low && byte(at) <= high;
  };
  for (size_t at = 0; at < text.size();) {
    const unsigned lead = byte(at);
    size_t length = 0;
    if (lead < 0x80) {
      length = 1;
    } else if (lead >= 0xC2 && lead <= 0xDF && continues(at + 1)) {
      length = 2;
    } else if (
        lead >= 0xE0 && lead <= 0xEF && continues(at + 1, lead == 0xE0 ? 0xA0 : 0x80, lead == 0xED ? 0x9F : 0xBF) &&
        continues(at + 2)) {
      length = 3;
    } else if (
        lead >= 0xF0 && lead <= 0xF4 && continues(at + 1, lead == 0xF0 ? 0x90 : 0x80, lead == 0xF4 ? 0x8F : 0xBF) &&
        continues(at + 2) && continues(at + 3)) {
      length = 4;
    } else {
      return at;
    }
    at += length;
  }
  return std::string_view::npos;
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& what) : text_(text), what_(what) {}

  Json whole() {
    if (const size_t wrong = first_not_utf8(text_); wrong != std::string_view::npos) {
      at_ = wrong;
      refuse("it is not UTF-8");
    }
    Json value = any(0);
    skip_space();
    if (at_ != text_.size()) {
      refuse("something follows the value");
    }
    return value;
  }

 private:
  [[noreturn]] void refuse(const char* why) const {
    fail<FileFormatError>(what_, " is not JSON: ", why, " at byte ", at_, ".");
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  char peek() const {
    if (at_ >= text_.size()) {
      refuse("it ends too early");
    }
    return text_[at_];
  }

  bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) {
      return false;
    }
    at_ += word.size();
    return true;
  }

  Json any(int depth) {
    if (depth > kDeepest) {
      refuse("it is nested too deep");
    }
    skip_space();
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return list(depth);
      case '"':
        return Json(string());
      default:
        return word_or_number();
    }
  }

  Json word_or_number() {
    if (take("true")) {
      return Json(true);
    }
    if (take("false")) {
      return Json(false);
    }
    if (take("null")) {
      return Json();
    }
    return number();
  }

  Json object(int depth) {
    Json::Object members;
    ++at_;
    skip_space();
    if (take("}")) {
      return Json(std::move(members));
    }
    do {
      skip_space();
      if (peek() != '"') {
        refuse("a name was expected");
      }
      std::string name = string();
      skip_space();
      if (!take(":")) {
        refuse("':' was expected");
      }
      if (!members.emplace(std::move(name), any(depth + 1)).second) {
        refuse("a name is there twice");
      }
      skip_space();
    } while (take(","));
    if (!take("}")) {
      refuse("',' or '}' was expected");
    }
    return Json(std::move(members));
  }

  Json list(int depth) {
    Json::List items;
    ++at_;
    skip_space();
    if (take("]")) {
      return Json(std::move(items));
    }
    do {
      items.push_back(any(depth + 1));
      skip_space();
    } while (take(","));
    if (!take("]")) {
      refuse("',' or ']' was expected");
    }
    return Json(std::move(items));
  }

  static bool is_digit(char letter) {
    return letter >= '0' && letter <= '9';
  }

  void digits() {
    if (!is_digit(peek())) {
      refuse("a digit was expected");
    }
    while (at_ < text_.size() && is_digit(text_[at_])) {
      ++at_;
    }
  }

  Json number() {
    const size_t start = at_;
    take("-");
    if (!take("0")) {
      digits();
    }
    const size_t whole = at_;
    if (take(".")) {
      digits();
    }
    if (take("e") || take("E")) {
      take("+") || take("-");
      digits();
    }
    const char* first = text_.data() + start;
    const char* last = text_.data() + at_;
    if (at_ == whole) {
      int64_t value = 0;
      if (std::from_chars(first, last, value).ec != std::errc()) {
        refuse("an integer is beyond 64 bits");
      }
      return Json(value);
    }
    double value = 0;
    if (std::from_chars(first, last, value).ec != std::errc()) {
      refuse("a number is out of range");
    }
    return Json(value);
  }

  uint32_t hexadecimal() {
    uint32_t value = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 4 || read.ptr != digits.data() + 4) {
      refuse("four hexadecimal digits were expected");
    }
    at_ += 4;
    return value;
  }

  uint32_t code_point() {
    const uint32_t first = hexadecimal();
    if (first < 0xD800 || first > 0xDFFF) {
      return first;
    }
    if (first > 0xDBFF || !take("\\u")) {
      refuse("half of a surrogate pair is missing");
    }
    const uint32_t second = hexadecimal();
    if (second < 0xDC00 || second > 0xDFFF) {
      refuse("half of a surrogate pair is missing");
    }
    return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
  }

  static void append_utf8(std::string& out, uint32_t point) {
    if (point < 0x80) {
      out += static_cast<char>(point);
      return;
    }
    const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
    out += static_cast<char>(kLead[more] | (point >> (6 * more)));
    for (int left = more - 1; left >= 0; --left) {
      out += static_cast<char>(0x80 | ((point >> (6 * left)) & 0x3F));
    }
  }

  void escape(std::string& out) {
    static constexpr std::string_view kFrom = "\"\\/bfnrt";
    static constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    const char letter = peek();
    ++at_;
    if (letter == 'u') {
      append_utf8(out, code_point());
    } else if (const size_t place = kFrom.find(letter); place != std::string_view::npos) {
      out += kTo[place];
    } else {
      refuse("an unknown escape");
    }
  }

  std::string string() {
    std::string out;
    ++at_;
    for (;;) {
      const char letter = peek();
      ++at_;
      if (letter == '"') {
        return out;
      }
      if (static_cast<unsigned char>(letter) < 0x20) {
        refuse("a control character in a text");
      }
      if (letter == '\\') {
        escape(out);
      } else {
        out += letter;
      }
    }
  }

  std::string_view text_;
  const std::string& what_;
  size_t at_ = 0;
};

} // namespace

Json parse_json(std::string_view text, const std::string& what) {
  return Parser(text, what).whole();
}

} // namespace torchtrt
