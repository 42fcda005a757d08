// Stops on request, in a step and within the validation: saved, and the run ends as if undisturbed.
#include <csignal>
#include <thread>

#include "hybridmed/train/trainer.hpp"
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("Ctrl-C: the step is finished and saved, the message says how to go on, and it does") {
  struct Row {
    std::string name;
    std::int64_t saved;  // steps before; the interrupt comes in the next one
  };
  for (const Row& row : {Row{"in the first step", 0},
                         {"in stage 1", 1},
                         {"in the last step of an epoch", 2},
                         {"in the last step of stage 1", stage1_steps - 1},
                         {"in stage 2", 7}}) {
    INFO(row.name);
    Run r;
    r.config.checkpoint_every = 0;  // nothing is saved but for the interrupt
    if (row.saved) r.start(row.saved);
    const auto old = std::signal(SIGINT, [](int) { train::interrupted() = true; });
    const std::string e = r.go(row.saved > 0, -1, {}, true);
    std::signal(SIGINT, old);
    train::interrupted() = false;
    CHECK_MESSAGE(e == "", e);
    CHECK_MESSAGE(says(r.printed, "stopped after step " + std::to_string(row.saved + 1) + "\\b"),
                  r.printed);
    CHECK_MESSAGE(holds(r.printed, "saved in " + r.folder.string()), r.printed);
    CHECK_MESSAGE(holds(r.printed, "pretrain --run " + r.folder.string() + " --resume"), r.printed);
    REQUIRE(!train::list_checkpoints(r.folder).empty());
    CHECK(train::list_checkpoints(r.folder).back() == r.checkpoint(row.saved + 1));
    CHECK(logged_steps(r.folder) == row.saved + 1);
    CHECK_NOTHROW(open_trained_run(r.folder));  // and it can be used as it is
    r.goes_on();
  }
  train::interrupted() = true;  // before there is anything to save
  Run r;
  CHECK(holds(r.go(false, -1), "stopped on request"));
  train::interrupted() = false;
  CHECK(train::list_checkpoints(r.folder).empty());
}

TEST_CASE(
    "a stop that is asked for within the validation is answered there; the resumed run ends as the "
    "undisturbed one") {
  for (int delay : {0, 1, 2, 4, 8, 16, 32}) {
    Run again;
    again.config.checkpoint_every = 1;
    std::thread stop([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20 + 3 * delay));
      train::interrupted() = true;
    });
    const std::string e = again.go(false, -1);
    stop.join();
    train::interrupted() = false;
    const bool before_the_first = holds(e, "stopped on request");
    CHECK_MESSAGE((e == "" || before_the_first), e);
    if (!before_the_first && !train::list_checkpoints(again.folder).empty()) again.goes_on();
  }
}

TEST_CASE("a state saved within the validation, its epoch still open, goes on to the same result") {
  Run r;
  r.start(epoch_steps - 1);
  // Stop after the last batch of the epoch, as a Ctrl-C within its validation does: the step is
  // made, the flag is up when validation begins.
  {
    const Listening quiet(r.scratch.path / "quiet.txt");
    Trainer trainer(r.config, r.folder, true, -1);
    train::interrupted() = true;
    CHECK_FALSE(trainer.run());
    train::interrupted() = false;
  }
  const io::Json state = io::read_json(train::list_checkpoints(r.folder).back() / "state.json");
  CHECK(state["batch"].get<std::int64_t>() == epoch_steps);
  CHECK(state["epoch"].get<std::int64_t>() == 0);
  r.goes_on();
}
