// The errors that the runtime raises, by whose move it is; they match torch_tensorrt.spec.errors in Python.
#pragma once

#include <c10/util/Exception.h>

#include <sstream>
#include <string>

namespace torchtrt {

// The caller's move: an input is not what the engine was built for.
class InputError : public c10::ValueError {
  using c10::ValueError::ValueError;
};

// The bytes of an engine are foreign, truncated, changed or newer.
class FileFormatError : public c10::ValueError {
  using c10::ValueError::ValueError;
};

// This machine, or this build of the runtime, lacks what an engine needs.
class EngineNotRunnable : public c10::Error {
  using c10::Error::Error;
};

// Raises `Kind` with the parts put together as text.
template <typename Kind, typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Kind({__func__, __FILE__, static_cast<uint32_t>(__LINE__)}, text.str());
}

} // namespace torchtrt
