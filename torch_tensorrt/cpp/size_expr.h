// Sizes that vary between runs, as text: parsed once, evaluated on the symbols' values, solved from shapes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace torchtrt {

// The symbols of one engine, numbered, so that a run works on a plain array.
class Symbols {
 public:
  // The number of `name`, a new one if it has none yet.
  size_t number(const std::string& name);
  size_t count() const {
    return names_.size();
  }
  const std::string& name(size_t number) const {
    return names_[number];
  }

 private:
  std::unordered_map<std::string, size_t> numbers_;
  std::vector<std::string> names_;
};

using Values = std::vector<std::optional<int64_t>>; // by the symbols' numbers

// An expression of numbers, symbols, + - * // % ** and the functions of kFunctions, in Python's syntax and with Python's meaning
// (division rounds down; fractions are doubles). Its value is an integer.
class SizeExpr {
 public:
  // Throws FileFormatError when `text` is anything else, or longer than 2000 characters.
  SizeExpr(const std::string& text, Symbols& symbols);

  // Throws InputError when a symbol has no value, a number leaves 64 bits, or something is divided by zero.
  int64_t operator()(const Values& values) const;

  const std::string& text() const {
    return text_;
  }
  // Whether it is a*symbol + b, with a and b that don't depend on the symbol.
  bool is_linear_in(size_t symbol) const;
  // The number of the symbol that the whole expression is, if it is just one.
  std::optional<size_t> symbol() const;
  const std::set<size_t>& symbols_used() const {
    return used_;
  }

  struct Node;

 private:
  std::string text_;
  std::shared_ptr<const Node> root_;
  std::set<size_t> used_;
};

// Fills in the one unknown symbol of `expr` when the expression is linear in it and has the value `given`.
// Throws InputError when that can't be done.
void solve_linear(const SizeExpr& expr, int64_t given, const Symbols& symbols, Values& values);

} // namespace torchtrt
