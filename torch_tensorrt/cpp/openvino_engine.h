// OpenVINO engines.
#pragma once

#include "engine.h"

namespace torchtrt {

// The engine in `decoded`, whose bytes live as long as `storage`. Throws FileFormatError.
std::shared_ptr<Engine> open_openvino_engine(DecodedEngine decoded, c10::Storage storage);

} // namespace torchtrt
