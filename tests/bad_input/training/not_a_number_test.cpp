// Losses that are not a number: the run stops with the step and its studies; what was saved stays.
#include <algorithm>

#include "hybridmed/data/studies.hpp"
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

/// Weights of an untrained model in which every parameter or buffer of a matching name holds x.
void poisoned_weights(const fs::path& file, const train::RunConfig& c, const std::string& pattern,
                      float x) {
  Trainer t(c, "unused", false, -1);
  REQUIRE(t.fill(pattern, x) > 0);
  t.save_model(file);
}
/// The ids that an error lists after "studies:".
std::vector<std::string> listed(const std::string& e) {
  const auto at = e.find("studies: ");
  if (at == e.npos) return {};
  const std::string list = e.substr(at + 9, e.find(';', at) - at - 9);
  std::vector<std::string> ids;
  for (std::string id : data::split_names(list, ",")) ids.push_back(id);
  return ids;
}

}  // namespace

TEST_CASE("NaN in the loss stops the run with the step and its studies; what was saved stays") {
  struct Row {
    std::string name, poisoned;  // parameters or buffers to start from; empty: the learning rate is
                                 // absurd from step 2 on
    float value;
    Index stage1_epochs, batch;
    std::string split;
    std::int64_t step;  // 0: the one after the last that was logged
  };
  const float huge = 3e38f;  // weights that are not finite are refused when they are loaded; these
                             // overflow when they are used
  for (const Row& row : {
           Row{"weights that overflow, stage 1", "^text\\.", huge, 2, 8, "train", 1},
           {"an output layer that overflows, stage 1", "^decoder\\.fc_sum\\.weight$", huge, 2, 8,
            "train", 1},
           {"weights that overflow, stage 2", "^proj\\.", huge, 0, 8, "train", 1},
           {"all training studies in one batch", "^text\\.", huge, 2,
            static_cast<Index>(ids_of("train").size()), "train", 1},
           {"an absurd learning rate", "", 0, 2, 8, "train", 0},
           {"only the validation loss: a mean that overflows", "running_mean$", -huge, 0, 8,
            "valid", epoch_steps},
       }) {
    INFO(row.name);
    Run r;
    const fs::path init = r.scratch.path / "init.safetensors";
    std::string e;
    Snapshot before;
    if (row.poisoned.empty()) {
      r.config.lr_stage1 = 1e38;
      r.start(1);
      before = r.saved();
      r.config.checkpoint_every = 100;
      e = r.go(true, -1);
    } else {
      r.config.epochs_stage1 = row.stage1_epochs;
      r.config.batch = row.batch;
      poisoned_weights(init, r.config, row.poisoned, row.value);
      if (row.step > 1) {
        REQUIRE(r.go(false, row.step - 1, init) == "");
        before = r.saved();
      }
      e = row.step > 1 ? r.go(true, -1) : r.go(false, -1, init);
    }
    const std::int64_t step = row.step ? row.step : logged_steps(r.folder) + 1;
    // What was saved can be read: no number in it was lost on the way through JSON.
    for (const auto& c : train::list_checkpoints(r.folder)) {
      train::Progress p;
      CHECK_NOTHROW(io::from_json(io::read_json(c / "state.json"), p, (c / "state.json").string()));
    }
    check_error(
        e, "",
        {"step " + std::to_string(step) + "\\b", "not a number|NaN|not finite", "studies: "});
    if (e.empty()) continue;
    const auto ids = listed(e);
    const auto all = ids_of(row.split);
    const std::set<std::string> distinct(ids.begin(), ids.end());
    CHECK(distinct.size() == ids.size());
    CHECK_MESSAGE(std::includes(all.begin(), all.end(), distinct.begin(), distinct.end()), e);
    CHECK_MESSAGE(distinct.size() == std::min(static_cast<std::size_t>(row.batch), all.size()), e);
    nothing_changed(before, r.saved());
    // Without a checkpoint the error must not promise one.
    CHECK_MESSAGE(holds(e, "last checkpoint") == !before.empty(), e);
  }
}
