// Bad configurations of a run, from a file and from --set.
#include "hybridmed/train/run_config.hpp"
#include "readers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE("configurations: values out of range are named with the range and what was given") {
  const auto error = [](auto&& change) {
    train::RunConfig c;
    c.data = "somewhere";
    change(c);
    return error_of([&] { c.validate(); });
  };
  CHECK(error([](auto&) {}) == "");
  CHECK(error([](auto& c) {
          c.jitter_contrast = 1;
          c.jitter_brightness = 2;
          c.jitter_rotation = 180;
          c.jitter_scale = 0.9;
        }) == "");
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double v : {-0.01, 180.5, nan}) {
    for (const auto& [key, member] :
         {std::pair{"jitter_contrast", &train::RunConfig::jitter_contrast},
          {"jitter_brightness", &train::RunConfig::jitter_brightness},
          {"jitter_rotation", &train::RunConfig::jitter_rotation},
          {"jitter_scale", &train::RunConfig::jitter_scale}}) {
      const std::string e = error([&, m = member](auto& c) { c.*m = v; });
      CHECK_MESSAGE(holds(e, std::string(key) + ": expected a number from 0 to "), e);
      CHECK_MESSAGE(holds(e, v == v ? v < 0 ? "got -0.01" : "got 180.5" : "got nan"), e);
    }
  }
  CHECK(holds(error([](auto& c) { c.jitter_scale = 1; }), "from 0 to 0.9"));
  using Change = void (*)(train::RunConfig&);
  for (const auto& [key, change] :
       {std::pair<const char*, Change>{"lambda_cg",
                                       [](train::RunConfig& c) { c.model.lambda_cg = -1; }},
        {"lambda_dis", [](train::RunConfig& c) { c.model.lambda_dis = -0.1; }},
        {"label_smoothing_cg", [](train::RunConfig& c) { c.model.label_smoothing_cg = 1; }},
        {"label_smoothing_gen", [](train::RunConfig& c) { c.model.label_smoothing_gen = -0.5; }},
        {"gamma1", [](train::RunConfig& c) { c.model.gamma1 = 0; }},
        {"ln_eps", [](train::RunConfig& c) { c.model.ln_eps = -1; }},
        {"log_scale_init", [](train::RunConfig& c) { c.model.log_scale_init = 99; }},
        {"log_scale_max", [](train::RunConfig& c) { c.model.log_scale_max = -1; }},
        {"warmup", [](train::RunConfig& c) { c.warmup = 5; }},
        {"seed", [](train::RunConfig& c) { c.seed = -5; }},
        {"epochs_stage1, epochs_stage2",
         [](train::RunConfig& c) { c.epochs_stage1 = c.epochs_stage2 = 0; }}}) {
    const std::string e = error(change);
    CHECK_MESSAGE(holds(e, std::string(key) + ": expected "), key, " gave: ", e);
  }
}

TEST_CASE("configurations: wrong types, unknown keys, broken JSON") {
  const auto config = [](const std::string& name, const std::string& text,
                         std::vector<std::string> patterns) {
    return with_bytes(
        name, "run.json", text, [](const fs::path& p) { train::RunConfig::read(p); },
        std::move(patterns));
  };
  check({
      config("a text for a whole number", R"({"batch": "many"})",
             {"'batch'", "whole number", "\"many\""}),
      config("a fraction for a whole number", R"({"batch": 8.5})",
             {"'batch'", "whole number", "8\\.5"}),
      config("true for a whole number", R"({"seed": true})", {"'seed'", "whole number", "true"}),
      config("a whole number that does not fit", R"({"batch": 18446744073709551615})",
             {"'batch'", "smaller", "18446744073709551615"}),
      config("a text for a number", R"({"lr_stage1": "3e-4"})",
             {"'lr_stage1'", "expects a number", "\"3e-4\""}),
      config("null for a number", R"({"warmup": null})", {"'warmup'", "expects a number", "null"}),
      config("1 for true", R"({"overfit_batch": 1})",
             {"'overfit_batch'", "true or false", "got 1"}),
      config("a number for a text", R"({"encoder": 7})", {"'encoder'", "a text", "got 7"}),
      config("a number for a list", R"({"resnet_depths": 3})",
             {"'resnet_depths'", "a list", "got 3"}),
      config("a list that is too short", R"({"resnet_depths": [1, 1, 1]})",
             {"'resnet_depths'", "a list of 4", "\\[1,1,1\\]"}),
      config("a text inside a list", R"({"resnet_depths": [1, 1, "1", 1]})",
             {"'resnet_depths'", "whole number", "\"1\""}),
      config("an object for a number", R"({"lambda_cg": {"value": 1}})",
             {"'lambda_cg'", "expects a number"}),
      config("an unknown key", R"({"batch": 8, "batsh": 8})",
             {"'batsh'", "unknown key", "'batch'"}),
      config("a key in capitals", R"({"Batch": 8})", {"'Batch'", "unknown key"}),
      config("a key like nothing", R"({"learning_rate_of_stage_1": 1})",
             {"'learning_rate_of_stage_1'", "unknown key"}),
      config("a key twice", R"({"batch": 8, "seed": 1, "batch": 16})", {"'batch'", "twice"}),
      config("a preset of the wrong type", R"({"preset": 3})", {"'preset'", "wrong type", "3"}),
      config("an unknown preset", R"({"preset": "tinny"})", {"'tinny'", "unknown preset", "tiny"}),
      config("no object", R"([{"batch": 8}])", {"object"}),
      config("cut in half", "{\n \"batch\": 8,\n \"se",
             {"line 3, column", "missing closing quote|unexpected end"}),
      config("a comma too many", "{\n \"batch\": 8,\n}", {"line 3, column 1", "unexpected '\\}'"}),
      config("an empty file", "", {"line 1, column 1", "unexpected end of input"}),
      {"a missing file",
       [](const fs::path& f) { return f / "run.json"; },
       [](const fs::path& p) { train::RunConfig::read(p); },
       {"No such file"}},
  });
}

TEST_CASE("--set: the same checks, and a refused value changes nothing") {
  struct Row {
    const char* assignment;
    std::vector<std::string> patterns;
  };
  train::RunConfig c;
  const io::Json before = io::to_json(c);
  for (const Row& row : {Row{"batch=many", {"'batch'", "whole number", "many"}},
                         {"batch=1e3", {"'batch'", "whole number", "1000"}},
                         {"batsh=8", {"'batsh'", "unknown key", "'batch'"}},
                         {"overfit_batch=yes", {"'overfit_batch'", "true or false", "yes"}},
                         {"resnet_depths=[1,2]", {"'resnet_depths'", "a list of 4"}},
                         {"batch", {"batch", "key=value"}}}) {
    INFO(row.assignment);
    check_error(error_of([&] { io::override_key(c, row.assignment); }), "--set", row.patterns);
    CHECK(io::to_json(c) == before);
  }
}
