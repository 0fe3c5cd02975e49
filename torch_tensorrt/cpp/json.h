// JSON as far as engines need it: a value, and a parser that trusts nothing it reads.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace torchtrt {

class Json {
 public:
  using List = std::vector<Json>;
  using Object = std::map<std::string, Json>;

  Json() = default; // null
  template <typename T>
  explicit Json(T value) : value_(std::move(value)) {}

  bool operator==(const Json& other) const {
    return value_ == other.value_;
  }
  bool is_null() const {
    return std::holds_alternative<std::monostate>(value_);
  }

  // The value, when it is of that kind, else null. Numbers with a fraction or an exponent are doubles.
  const bool* boolean() const {
    return std::get_if<bool>(&value_);
  }
  const int64_t* integer() const {
    return std::get_if<int64_t>(&value_);
  }
  const std::string* text() const {
    return std::get_if<std::string>(&value_);
  }
  const List* list() const {
    return std::get_if<List>(&value_);
  }
  const Object* object() const {
    return std::get_if<Object>(&value_);
  }

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, List, Object> value_;
};

// The value that `text` holds. Throws FileFormatError, naming `what`, when it isn't JSON, is nested over 64 deep or holds an
// integer beyond 64 bits.
Json parse_json(std::string_view text, const std::string& what);

} // namespace torchtrt
