// Are these tensors what an engine was built for? One clear error when not.
#pragma once

#include <c10/util/ArrayRef.h>

#include "engine.h"

namespace torchtrt {

// Throws InputError naming the first input that is wrong in number, dtype, device, rank, layout or a size's range.
void check_inputs(const EngineSpec& spec, c10::ArrayRef<at::Tensor> inputs);

// The symbols' values, after checking that sizes which belong together agree. `inputs` have passed check_inputs.
Values check_agreement(const EngineSpec& spec, c10::ArrayRef<at::Tensor> inputs);

} // namespace torchtrt
