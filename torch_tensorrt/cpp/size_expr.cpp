#include "size_expr.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "errors.h"

namespace torchtrt {

enum class Do {
  kNumber, kSymbol, kNegate, kAdd, kSubtract, kMultiply, kFloorDiv, kCeilDiv, kMod, kPower, kMax, kMin,
  kTruncate, kFloor, kCeil, kRound, // a fraction to an integer
  kFraction, kToFloat, kRoot, kTrueDiv, // these are fractions
};

struct SizeExpr::Node {
  Do what;
  int64_t number = 0; // the number, or the symbol's
  std::vector<std::shared_ptr<const Node>> arguments = {};
  double fraction = 0; // of kFraction
  bool is_fraction = false; // whether the value is a double, as Python's float
};

namespace {

using Node = SizeExpr::Node;
using Branch = std::shared_ptr<const Node>;
constexpr size_t kLongest = 2000;
constexpr int kDeepest = 200;

struct Function {
  std::string_view name;
  Do what;
  size_t arguments; // 0: any number, folded from the left
};

const Function kFunctions[] = {
    {"Max", Do::kMax, 0},
    {"Min", Do::kMin, 0},
    {"FloorDiv", Do::kFloorDiv, 0},
    {"CleanDiv", Do::kFloorDiv, 0},
    {"CeilDiv", Do::kCeilDiv, 0},
    {"Mod", Do::kMod, 0},
    {"PythonMod", Do::kMod, 0},
    {"PowByNatural", Do::kPower, 0},
    {"TruncToInt", Do::kTruncate, 1},
    {"FloorToInt", Do::kFloor, 1},
    {"CeilToInt", Do::kCeil, 1},
    {"RoundToInt", Do::kRound, 1},
    {"ToFloat", Do::kToFloat, 1},
    {"OpaqueUnaryFn_sqrt", Do::kRoot, 1},
    {"IntTrueDiv", Do::kTrueDiv, 2},
    {"FloatTrueDiv", Do::kTrueDiv, 2},
};

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

class Parser {
 public:
  Parser(const std::string& text, Symbols& symbols, std::set<size_t>& used)
      : text_(text), symbols_(symbols), used_(used) {}

  Branch whole() {
    Branch found = sum();
    skip_space();
    if (at_ != text_.size() || found->is_fraction) {
      refuse();
    }
    return found;
  }

 private:
  [[noreturn]] void refuse() const {
    fail<FileFormatError>("'", text_, "' is not a size expression: see character ", at_, ".");
  }

  void skip_space() {
    while (at_ < text_.size() && text_[at_] == ' ') {
      ++at_;
    }
  }

  // Takes `sign` unless it is the beginning of a longer one ('*' of '**').
  bool take(std::string_view sign) {
    skip_space();
    if (text_.compare(at_, sign.size(), sign) != 0 || (sign == "*" && text_.compare(at_, 2, "**") == 0)) {
      return false;
    }
    at_ += sign.size();
    return true;
  }

  // Fractions are added, subtracted and multiplied; the other operators are for integers.
  Branch join(Do what, Branch left, Branch right) const {
    const bool is_fraction = left->is_fraction || right->is_fraction;
    if (is_fraction && what != Do::kAdd && what != Do::kSubtract && what != Do::kMultiply) {
      refuse();
    }
    return std::make_shared<Node>(Node{what, 0, {std::move(left), std::move(right)}, 0, is_fraction});
  }

  Branch sum() {
    if (++depth_ > kDeepest) {
      refuse();
    }
    Branch left = product();
    for (;;) {
      if (take("+")) {
        left = join(Do::kAdd, left, product());
      } else if (take("-")) {
        left = join(Do::kSubtract, left, product());
      } else {
        --depth_;
        return left;
      }
    }
  }

  Branch product() {
    Branch left = factor();
    for (;;) {
      if (take("*")) {
        left = join(Do::kMultiply, left, factor());
      } else if (take("//")) {
        left = join(Do::kFloorDiv, left, factor());
      } else if (take("%")) {
        left = join(Do::kMod, left, factor());
      } else {
        return left;
      }
    }
  }

  // -x, or x ** y, which binds closer than the sign before it.
  Branch factor() {
    if (++depth_ > kDeepest) {
      refuse();
    }
    Branch found;
    if (take("-")) {
      Branch negated = factor();
      const bool is_fraction = negated->is_fraction;
      found = std::make_shared<Node>(Node{Do::kNegate, 0, {std::move(negated)}, 0, is_fraction});
    } else {
      found = atom();
      if (take("**")) {
        found = join(Do::kPower, found, factor());
      }
    }
    --depth_;
    return found;
  }

  Branch atom() {
    if (take("(")) {
      Branch inner = sum();
      if (!take(")")) {
        refuse();
      }
      return inner;
    }
    const char first = at_ < text_.size() ? text_[at_] : '\0';
    return is_digit(first) ? number() : is_letter(first) ? named() : (refuse(), nullptr);
  }

  Branch number() {
    int64_t value = 0;
    const auto read = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (read.ec != std::errc()) {
      refuse();
    }
    if (*read.ptr == '.' || *read.ptr == 'e') {
      return fraction();
    }
    at_ = static_cast<size_t>(read.ptr - text_.data());
    return std::make_shared<Node>(Node{Do::kNumber, value});
  }

  Branch fraction() {
    double value = 0;
    const auto read = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (read.ec != std::errc()) {
      refuse();
    }
    at_ = static_cast<size_t>(read.ptr - text_.data());
    return std::make_shared<Node>(Node{Do::kFraction, 0, {}, value, true});
  }

  Branch named() {
    const size_t start = at_;
    while (at_ < text_.size() && (is_letter(text_[at_]) || is_digit(text_[at_]))) {
      ++at_;
    }
    const std::string name = text_.substr(start, at_ - start);
    if (take("(")) {
      return call(name);
    }
    const size_t symbol = symbols_.number(name);
    used_.insert(symbol);
    return std::make_shared<Node>(Node{Do::kSymbol, static_cast<int64_t>(symbol)});
  }

  Branch call(const std::string& name) {
    const auto known = std::find_if(
        std::begin(kFunctions), std::end(kFunctions), [&](const auto& entry) { return entry.name == name; });
    if (known == std::end(kFunctions)) {
      refuse();
    }
    std::vector<Branch> arguments = {sum()};
    while (take(",")) {
      arguments.push_back(sum());
    }
    if (!take(")") || (known->arguments != 0 && known->arguments != arguments.size())) {
      refuse();
    }
    if (known->arguments != 0) {
      return std::make_shared<Node>(Node{known->what, 0, std::move(arguments), 0, known->what >= Do::kFraction});
    }
    Branch result = arguments[0];
    if (result->is_fraction) {
      refuse();
    }
    for (size_t at = 1; at < arguments.size(); ++at) {
      result = join(known->what, result, arguments[at]);
    }
    return result;
  }

  const std::string& text_;
  Symbols& symbols_;
  std::set<size_t>& used_;
  size_t at_ = 0;
  int depth_ = 0;
};

[[noreturn]] void overflow() {
  fail<InputError>("A size leaves the range of 64-bit integers.");
}

int64_t floor_div(int64_t a, int64_t b) {
  if (b == 0) {
    fail<InputError>("A size is divided by zero.");
  }
  if (a == INT64_MIN && b == -1) {
    overflow();
  }
  return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

int64_t modulo(int64_t a, int64_t b) {
  if (b == -1) {
    return 0; // INT64_MIN % -1 traps
  }
  return a - floor_div(a, b) * b;
}

int64_t negate(int64_t a) {
  return a == INT64_MIN ? (overflow(), 0) : -a;
}

int64_t multiply(int64_t a, int64_t b) {
  int64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? (overflow(), 0) : result;
}

int64_t power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    fail<InputError>("A size is raised to a negative power.");
  }
  if (base == 0 || base == 1) {
    return exponent == 0 ? 1 : base;
  }
  if (base == -1) {
    return exponent % 2 == 0 ? 1 : -1;
  }
  int64_t result = 1;
  for (; exponent > 0; --exponent) { // 63 times at most, then it has overflowed
    result = multiply(result, base);
  }
  return result;
}

int64_t evaluate(const Node& node, const Values& values);

// The value of any node as a double.
double evaluate_fraction(const Node& node, const Values& values) {
  if (!node.is_fraction) {
    return static_cast<double>(evaluate(node, values));
  }
  if (node.what == Do::kFraction) {
    return node.fraction;
  }
  const double a = evaluate_fraction(*node.arguments[0], values);
  const double b = node.arguments.size() > 1 ? evaluate_fraction(*node.arguments[1], values) : 0;
  switch (node.what) {
    case Do::kNegate:
      return -a;
    case Do::kAdd:
      return a + b;
    case Do::kSubtract:
      return a - b;
    case Do::kMultiply:
      return a * b;
    case Do::kTrueDiv:
      return b == 0 ? (fail<InputError>("A size is divided by zero."), 0) : a / b;
    case Do::kRoot:
      return std::sqrt(a);
    default:
      return a; // kToFloat
  }
}

int64_t round(Do how, double value) {
  const double rounded = how == Do::kTruncate ? std::trunc(value)
      : how == Do::kFloor                     ? std::floor(value)
      : how == Do::kCeil                      ? std::ceil(value)
                                              : std::nearbyint(value); // half to even, as Python
  if (!(std::fabs(rounded) < 0x1p63)) { // not for NaN either
    overflow();
  }
  return static_cast<int64_t>(rounded);
}

int64_t apply(const Node& node, const Values& values) {
  const int64_t a = evaluate(*node.arguments[0], values), b = evaluate(*node.arguments[1], values);
  int64_t result = 0;
  switch (node.what) {
    case Do::kAdd:
      return __builtin_add_overflow(a, b, &result) ? (overflow(), 0) : result;
    case Do::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? (overflow(), 0) : result;
    case Do::kMultiply:
      return multiply(a, b);
    case Do::kFloorDiv:
      return floor_div(a, b);
    case Do::kCeilDiv:
      return negate(floor_div(negate(a), b));
    case Do::kMod:
      return modulo(a, b);
    case Do::kPower:
      return power(a, b);
    case Do::kMax:
      return std::max(a, b);
    default:
      return std::min(a, b);
  }
}

int64_t evaluate(const Node& node, const Values& values) {
  if (node.what == Do::kNumber) {
    return node.number;
  }
  if (node.what == Do::kSymbol) {
    const auto& value = values[static_cast<size_t>(node.number)];
    if (!value) {
      fail<InputError>("A symbol of the engine's sizes can't be computed from its inputs.");
    }
    return *value;
  }
  if (node.what == Do::kNegate) {
    return negate(evaluate(*node.arguments[0], values));
  }
  if (node.what >= Do::kTruncate) {
    return round(node.what, evaluate_fraction(*node.arguments[0], values));
  }
  return apply(node, values);
}

// Whether the symbol is somewhere in `node`.
bool holds(const Node& node, size_t symbol) {
  return (node.what == Do::kSymbol && static_cast<size_t>(node.number) == symbol) ||
      std::any_of(node.arguments.begin(), node.arguments.end(), [&](const Branch& part) { return holds(*part, symbol); });
}

// Whether `node` is a*symbol + b, with a and b that don't depend on it.
bool is_linear(const Node& node, size_t symbol) {
  if (node.what == Do::kSymbol || !holds(node, symbol)) {
    return true;
  }
  if (node.what == Do::kNegate) {
    return is_linear(*node.arguments[0], symbol);
  }
  if (node.what != Do::kAdd && node.what != Do::kSubtract && node.what != Do::kMultiply) {
    return false;
  }
  const Node &left = *node.arguments[0], &right = *node.arguments[1];
  const bool both = holds(left, symbol) && holds(right, symbol);
  return is_linear(left, symbol) && is_linear(right, symbol) && !(both && node.what == Do::kMultiply);
}

} // namespace

size_t Symbols::number(const std::string& name) {
  const auto [entry, is_new] = numbers_.emplace(name, names_.size());
  if (is_new) {
    names_.push_back(name);
  }
  return entry->second;
}

SizeExpr::SizeExpr(const std::string& text, Symbols& symbols) : text_(text) {
  if (text.size() > kLongest) {
    fail<FileFormatError>("A size expression of ", text.size(), " characters is over the limit of ", kLongest, ".");
  }
  root_ = Parser(text_, symbols, used_).whole();
}

int64_t SizeExpr::operator()(const Values& values) const {
  return evaluate(*root_, values);
}

bool SizeExpr::is_linear_in(size_t symbol) const {
  return is_linear(*root_, symbol);
}

std::optional<size_t> SizeExpr::symbol() const {
  return root_->what == Do::kSymbol ? std::optional<size_t>(static_cast<size_t>(root_->number)) : std::nullopt;
}

void solve_linear(const SizeExpr& expr, int64_t given, const Symbols& symbols, Values& values) {
  std::vector<size_t> unknown;
  for (const size_t symbol : expr.symbols_used()) {
    if (!values[symbol]) {
      unknown.push_back(symbol);
    }
  }
  if (unknown.empty()) {
    return;
  }
  if (unknown.size() > 1) {
    fail<InputError>("Several sizes can't be told apart from ", expr.text(), " = ", given, ".");
  }
  int64_t at[2] = {0, 0};
  for (int64_t probe = 0; probe < 2 && expr.is_linear_in(unknown[0]); ++probe) {
    values[unknown[0]] = probe;
    at[probe] = expr(values);
  }
  values[unknown[0]].reset();
  const int64_t slope = at[1] - at[0];
  if (slope == 0) {
    fail<InputError>("The size ", symbols.name(unknown[0]), " can't be computed from ", expr.text(), " = ", given, ".");
  }
  values[unknown[0]] = floor_div(given - at[0], slope);
}

} // namespace torchtrt
