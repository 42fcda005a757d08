// Pre-training: the configuration, then the trainer in its precision.
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/trainer.hpp"

#include "commands.hpp"

namespace hybridmed::app {

namespace fs = std::filesystem;

void set_threads(const Common& c) {
  if (c.threads > 0) CpuBackend::set_threads(c.threads);
}

int run_pretrain(const Common& common, const PretrainOptions& o) {
  if (o.config.empty() && !o.resume)
    fail("app", "pretrain", "--config is needed", "or --resume to go on with a run");
  if (o.resume && !fs::exists(fs::path(o.run) / "config.json"))
    fail("app", "pretrain", o.run + ": no run to resume: it has no config.json",
         "start it with --config FILE and without --resume");
  // A resumed run may be given its configuration again: the trainer refuses what differs from what
  // it began with, key by key.
  train::RunConfig config = train::RunConfig::read(
      o.config.empty() ? fs::path(o.run) / "config.json" : fs::path(o.config));
  io::override_keys(config, o.overrides);
  if (o.resume && !o.init.empty())
    fail("app", "pretrain", "--init: a resumed run goes on with its own weights",
         "leave out --resume, and name a new --run, to start from others");
  if (common.seed >= 0) config.seed = common.seed;
  try {
    config.validate();
    train::check_stages(config, system::stages_of_system(config.system, config.model));
  } catch (const Error& e) {
    fail("app", "pretrain",
         (o.config.empty() ? o.run + "/config.json" : o.config) +
             (o.overrides.empty() ? "" : " with --set") + ": " + e.reason(),
         e.hint());
  }
  if (o.resume && !fs::is_directory(config.data))
    fail("app", "pretrain", config.data + ": no such folder; it held the data when the run began",
         "--set data=FOLDER where it is now");
  set_threads(common);
  std::string with;  // what a resumed run is to be started with
  if (common.threads > 0) with += " --threads " + std::to_string(common.threads);
  if (common.backend != "cpu") with += " --backend " + common.backend;
  if (common.device > 0) with += " --device " + std::to_string(common.device);
  if (common.tf32) with += " --tf32";
  train::TrainerOptions options{o.run, o.resume, o.init, o.stop_after, with, "hybridmed pretrain"};
  if (common.tf32) options.arithmetic = "products of floats round their factors to TF32";
  if (common.backend == "cuda") return pretrain_on_cuda(config, options, common);
  if (config.precision == "double") return pretrain_double(config, options);
  if (config.precision == "bf16") return pretrain_bf16(config, options);
  return pretrain_float(config, options);
}

}  // namespace hybridmed::app
