#pragma once
// Weights of another file as the start of a run.
#include "hybridmed/train/checkpoint.hpp"

namespace hybridmed::train {

/// Loads what fits, and lists on stderr what did not. Did they bring a decoder, so that a teacher
/// has been trained?
/// @throws Error where nothing fits.
template <class M>
bool load_initial_weights(const std::filesystem::path& source, M& model) {
  const io::Safetensors file = io::Safetensors::read(source);
  io::verify_checksum(source, file.bytes());
  const io::LoadReport r = io::load_weights(model, file);
  const auto list = [](const char* what, const std::vector<std::string>& names) {
    std::fprintf(stderr, "  %zu %s\n", names.size(), what);
    for (const auto& n : names) std::fprintf(stderr, "    %s\n", n.c_str());
  };
  std::fprintf(stderr, "weights from %s:\n", source.c_str());
  std::fprintf(stderr, "  %zu loaded\n", r.loaded.size());
  list("missing", r.missing);
  list("unexpected", r.unexpected);
  list("mismatched", r.mismatched);
  if (r.loaded.empty()) fail("train", "init", source.string() + ": no tensor fits the model");
  return std::any_of(r.loaded.begin(), r.loaded.end(),
                     [](const std::string& name) { return name.starts_with("decoder."); });
}

}  // namespace hybridmed::train
