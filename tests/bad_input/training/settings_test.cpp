// Settings: what a resumed run may change and what cannot learn, and plans beyond the memory.
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/losses_seen.hpp"
#include "training.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("a run is not resumed with another configuration: every key that differs is named") {
  struct Row {
    std::string name;
    std::function<void(train::RunConfig&)> change;
    std::vector<std::string> patterns;
  };
  for (const Row& row :
       {Row{"wider embeddings",
            [](train::RunConfig& c) { c.model.d_e = 20; },
            {"d_e \\(was 12, is 20\\)"}},
        {"another image encoder",
         [](train::RunConfig& c) {
           c.model.resnet_depths = {1, 1, 1, 1};
         },
         {"resnet_depths \\(was \\[1,2,1,1\\]"}},
        {"another seed and rate",
         [](train::RunConfig& c) {
           c.seed = 5;
           c.lr_stage2 = 0.5;
         },
         {"lr_stage2 \\(was", "seed \\(was 0, is 5\\)"}},
        {"another batch", [](train::RunConfig& c) { c.batch = 4; }, {"batch \\(was 8, is 4\\)"}},
        {"other weights of the losses",
         [](train::RunConfig& c) { c.model.lambda_cl = 0.5; },
         {"lambda_cl"}},
        {"fewer epochs",
         [](train::RunConfig& c) { c.epochs_stage2 = 1; },
         {"epochs_stage2 \\(was 2, is 1\\)"}},
        {"other sections", [](train::RunConfig& c) { c.sections = "both"; }, {"sections"}}}) {
    INFO(row.name);
    Run r;
    r.start(2);
    const Snapshot before = snapshot(r.folder);
    row.change(r.config);
    check_error(r.go(true, 9), r.folder, row.patterns);
    nothing_changed(before, snapshot(r.folder));
    r.goes_on();
  }
}

TEST_CASE("a resumed run may move, and may get more epochs, in either stage and when it is over") {
  Run r;
  r.start(2);  // in stage 1
  r.config.workers = 2;
  r.config.checkpoint_every = 2;
  r.config.keep_checkpoints = 3;
  r.config.cache_mb = 1;
  r.config.epochs_stage1 = 3;
  REQUIRE(r.go(true, stage1_steps + 1) == "");
  CHECK_MESSAGE(holds(r.printed, "stage 1 goes on for 3 epochs"), r.printed);
  CHECK(train::list_checkpoints(r.folder).back() == r.checkpoint(stage1_steps + 1));
  r.config.epochs_stage1 = 4;
  REQUIRE(r.go(true, 4 * epoch_steps + 1) == "");
  r.config.epochs_stage1 = 5;  // stage 1 is over
  CHECK(holds(r.go(true, -1), "epochs_stage1 (was 4, is 5)"));
  r.config.epochs_stage1 = 4;
  REQUIRE(r.go(true, -1) == "");
  const auto steps = [&] {
    return io::read_json(train::list_checkpoints(r.folder).back() / "state.json")["step"]
        .get<std::int64_t>();
  };
  CHECK(steps() == 6 * epoch_steps);
  r.config.epochs_stage2 = 3;  // a finished run
  REQUIRE(r.go(true, -1) == "");
  CHECK(steps() == 7 * epoch_steps);
  CHECK(io::read_json(train::list_checkpoints(r.folder).back() / "state.json")["finished"]
            .get<bool>());
  REQUIRE(r.go(true, -1) == "");  // and nothing more
  CHECK(steps() == 7 * epoch_steps);
}

TEST_CASE("settings that cannot learn are refused, or warned about") {
  const auto refusal = [](auto change) {
    train::RunConfig c = tiny_config("somewhere");
    change(c);
    return error_of([&] {
      c.validate();
      train::check_stages(c, system::stages_of_system(c.system, c.model));
    });
  };
  CHECK(refusal([](auto&) {}) == "");
  CHECK(holds(refusal([](auto& c) { c.model.lambda_sum = 0; }), "lambda_sum"));
  CHECK(refusal([](auto& c) {
          c.model.lambda_sum = 0;
          c.epochs_stage1 = 0;
        }) == "");
  CHECK(holds(refusal([](auto& c) {
                c.model.lambda_cg = c.model.lambda_cl = c.model.lambda_sum = c.model.lambda_cap =
                    c.model.lambda_dis = 0;
                c.epochs_stage1 = 0;
              }),
              "cannot learn"));
  CHECK(holds(refusal([](auto& c) {
                c.batch = 1;
                c.epochs_stage1 = 0;
                c.model.lambda_sum = c.model.lambda_cap = c.model.lambda_dis = 0;
              }),
              "batch"));
  CHECK(holds(refusal([](auto& c) { c.workers = Index{1} << 32; }), "workers"));
  CHECK(holds(refusal([](auto& c) { c.workers = 257; }), "workers"));
  CHECK(holds(refusal([](auto& c) { c.resize = 1000000; }), "resize"));
  CHECK(holds(refusal([](auto& c) { c.lr_floor = 1; }), "lr_floor: expected at most lr_stage1"));
  CHECK(holds(refusal([](auto& c) { c.clip = 1e-30; }), "clip"));
  CHECK(refusal([](auto& c) { c.clip = 0; }) == "");
  for (double x : {0.0, 1e-320, 2147483648.0, 1e308, std::nan("")})
    CHECK(holds(refusal([x](auto& c) { c.model.tau_d = x; }), "tau_d"));
  for (double x : {1e-320, 1.0, 1e308})
    CHECK(holds(refusal([x](auto& c) { c.model.image_ln_eps = x; }), "image_ln_eps"));
  CHECK(holds(refusal([](auto& c) { c.model.gamma3 = 1e308; }), "gamma3"));
  CHECK(holds(refusal([](auto& c) { c.model.lambda_cap = 1e308; }), "lambda_cap"));
  CHECK(holds(refusal([](auto& c) { c.weight_decay = 1e308; }), "weight_decay"));
  CHECK(holds(refusal([](auto& c) { c.vocab_size = -1; }),
              "vocab_size: expected at least 8, got -1"));
  CHECK(holds(refusal([](auto& c) {
                c.model.resnet_depths = {1, 1, 1, Index{1} << 62};
              }),
              "resnet_depths"));
  CHECK(holds(refusal([](auto& c) { c.model.uni_blocks = 4096; }), "uni_blocks"));
  train::RunConfig one = tiny_config("somewhere");
  one.batch = 1;
  one.epochs_stage1 = one.epochs_stage2 = 2;
  const auto warnings = [&] {
    return train::stage_warnings(one, system::stages_of_system(one.system, one.model), false);
  };
  REQUIRE(warnings().size() == 1);
  CHECK(holds(warnings()[0], "batch = 1: the contrastive terms (cg, cl)"));
  one.lr_stage2 = 0;
  CHECK(warnings().size() == 2);
  one.system = "clip";
  REQUIRE(warnings().size() == 3);
  CHECK(holds(warnings()[2], "clip has one stage, whose keys are epochs_stage2"));
  CHECK(holds(refusal([](auto& c) { c.system = "clop"; }), "expected hybridmed, clip"));
}

TEST_CASE(
    "a plan that the machine has no memory for is refused before the first step, with the keys to "
    "lower") {
  Run r;
  r.config.model.d = 65536;
  r.config.model.heads = 1;
  r.config.model.uni_blocks = 64;
  const std::string e = r.go(false, -1);
  CHECK_MESSAGE(holds(e, "out of memory"), e);
  CHECK_MESSAGE(holds(e, "lower"), e);
  CHECK_FALSE(fs::exists(r.folder / "log.csv"));
}
