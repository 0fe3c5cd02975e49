// The bytes of an OpenVINO engine taken apart: what engines/openvino/payload.py writes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine_spec.h"

namespace torchtrt {

struct OpenVINOPayload {
  c10::ScalarType precision;
  bool snippets = true;
  bool refittable = false; // there is no compiled model in it, only the representation
  std::vector<size_t> inputs; // for each model input the engine's
  std::vector<size_t> outputs; // for each engine output the model's; several may share one
  const uint8_t* blob = nullptr;
  size_t blob_bytes = 0;
  std::string_view xml;
  std::map<std::string, std::string> options; // OpenVINO's properties -> values, where engine_options asked for some

  struct Piece {
    const uint8_t* data;
    size_t size;
  };
  std::vector<Piece> pieces; // of the representation's weights, one after the other
};

// Throws FileFormatError. What it returns points into `data`.
OpenVINOPayload read_openvino_payload(const uint8_t* data, size_t size, const EngineSpec& spec);

} // namespace torchtrt
