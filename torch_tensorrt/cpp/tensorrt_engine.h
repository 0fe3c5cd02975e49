// TensorRT engines, where the runtime was built with the SDK's headers.
#pragma once

#include "engine.h"

namespace torchtrt {

// The engine in `decoded`, whose payload is the SDK's plan. Throws EngineNotRunnable, with the SDK's own words.
std::shared_ptr<Engine> open_tensorrt_engine(DecodedEngine decoded, c10::Storage storage);

} // namespace torchtrt
