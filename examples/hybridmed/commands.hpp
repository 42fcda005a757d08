#pragma once
// The subcommands of the trainer: their options and entry points.
#include <cstddef>
#include <string>
#include <vector>

namespace hybridmed::train {
struct RunConfig;
struct TrainerOptions;
}  // namespace hybridmed::train

namespace hybridmed::app {

struct Common {
  std::string backend = "cpu";  // or cuda
  int device = 0;               // of cuda, counted from 0
  bool tf32 = false;            // of cuda: products of floats on tensor cores
  int threads = 0;
  long long seed = -1;
  std::string command;  // as it was typed, for files that say how they were made
};
/// Where the keys of a data folder's tables come from: a configuration file, and key=value.
struct TableOptions {
  std::string config;
  std::vector<std::string> overrides;
};
struct PretrainOptions {
  std::string config, run, init;
  std::vector<std::string> overrides;
  bool resume = false;
  long long stop_after = -1;
};
struct EvaluateOptions {
  std::string run, data, split, prompts, out;
  TableOptions tables;
};
struct CalibrateOptions {
  std::string run, data, split, prompts;  // split empty: valid, or all where there are none
  TableOptions tables;
};
struct ImagesOptions {
  std::string run, prompts, scores;  // scores: empty, cosine or probability
  std::vector<std::string> images;
};
struct EmbedOptions {
  std::string run, texts;
  std::vector<std::string> images;
};
struct AttentionOptions {
  std::string run, prompt, out, npy, csv, image;
  bool all_words = false;
};
struct CheckOptions {
  std::string data;
  TableOptions tables;
};
struct ConfigOptions {
  std::vector<std::string> keys;
  bool markdown = false;
};
struct PhantomCommand {
  std::string out;
  std::size_t count = 2000, side = 96;
};

void set_threads(const Common&);
int run_pretrain(const Common&, const PretrainOptions&);
int run_evaluate(const Common&, const EvaluateOptions&);
int run_calibrate(const Common&, const CalibrateOptions&);
int run_caption(const Common&, const ImagesOptions&);
int run_summarize(const Common&, const std::string& run);
int run_classify(const Common&, const ImagesOptions&);
int run_embed(const Common&, const EmbedOptions&);
int run_attention(const Common&, const AttentionOptions&);
int run_check(const CheckOptions&);
int run_config(const ConfigOptions&);
int run_phantom(const Common&, const PhantomCommand&);
int run_curves(const std::string& run);

/// On the CPU; one precision each, in a source file of its own: these are most of the compile time.
int pretrain_float(const train::RunConfig&, const train::TrainerOptions&);
int pretrain_double(const train::RunConfig&, const train::TrainerOptions&);
int pretrain_bf16(const train::RunConfig&, const train::TrainerOptions&);
/// In the precision of the configuration.
int pretrain_on_cuda(const train::RunConfig&, const train::TrainerOptions&, const Common&);

/// Why this program cannot compute on a backend, and what to do; empty where it can. Only CUDA is
/// ever left out: on_cuda.cpp or, in a build without it, without_cuda.cpp.
std::string cuda_is_missing();

}  // namespace hybridmed::app
