// SHA-256 (FIPS 180-4), so that the runtime needs no cryptography library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace torchtrt {

// The digest of `size` bytes in hexadecimal. Uses the CPU's SHA instructions where it has them.
std::string sha256(const uint8_t* data, size_t size);

// The same in portable code: what other CPUs use.
std::string sha256_portable(const uint8_t* data, size_t size);

} // namespace torchtrt
