// Acceptance tests 6 and 7 of the method (section 12): what learning on phantoms shows, and what an
// untrained model does not know.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/data/phantom.hpp"
#include "hybridmed/task/evaluation.hpp"
#include "tiny_run.hpp"

using namespace hybridmed;
namespace fs = std::filesystem;
using B = CpuBackend;
using T = float;

using hybridmed::test::NamedTrainer;

namespace {

const test::ScratchFolder& scratch() {
  static const test::ScratchFolder folder;
  return folder;
}
train::RunConfig config() {
  const fs::path data = scratch().path / "data";
  if (!fs::exists(data)) {
    data::PhantomOptions o;
    o.count = 400;
    o.side = 40;
    o.valid = 0.2;
    o.test = 0.2;
    data::write_phantoms(data, o);
  }
  train::RunConfig c = test::tiny_config(data);
  c.model.d = 32;
  c.model.d_a = 16;
  c.model.d_e = 16;
  c.model.t_findings = 40;
  c.model.t_impression = 20;
  c.vocab_size = 150;
  c.batch = 16;
  c.epochs_stage1 = 0;
  c.epochs_stage2 = 8;
  c.lr_stage2 = 3e-3;
  c.checkpoint_every = 1000000;
  return c;
}
std::vector<io::Json> log_of(const train::RunConfig& c, const std::string& name,
                             std::int64_t stop_after = -1) {
  NamedTrainer<T, B>(c, {scratch().path / name, false, {}, stop_after}).run();
  std::vector<io::Json> rows;
  std::ifstream in(scratch().path / name / "log.jsonl");
  for (std::string line; std::getline(in, line);) rows.push_back(io::parse_json(line, name));
  return rows;
}

}  // namespace

TEST_CASE(
    "6. summarization converges faster than captioning: no stage 1, no distillation, the same "
    "held-out studies and steps") {
  auto c = config();
  c.model.lambda_dis = 0;
  std::vector<double> sum, cap;
  for (const auto& row : log_of(c, "fair"))
    if (row["kind"] == "valid") {
      sum.push_back(row["sum"].get<double>());
      cap.push_back(row["cap"].get<double>());
    }
  REQUIRE(sum.size() == 8);
  CHECK(sum.back() < sum.front());
  CHECK(cap.back() < cap.front());
  for (std::size_t e = 4; e < sum.size(); ++e) CHECK_MESSAGE(sum[e] < cap[e], "epoch ", e + 1);
}

TEST_CASE(
    "6. every term can be switched off from one configuration; the total is the weighted sum of "
    "what is left") {
  using Member = double model::Config::*;
  const std::pair<const char*, Member> terms[] = {{"cg", &model::Config::lambda_cg},
                                                  {"cl", &model::Config::lambda_cl},
                                                  {"sum", &model::Config::lambda_sum},
                                                  {"cap", &model::Config::lambda_cap},
                                                  {"dis", &model::Config::lambda_dis}};
  for (const auto& [off, member] : terms) {
    auto c = config();
    c.model.*member = 0;
    const auto rows = log_of(c, std::string("without-") + off, 2);
    REQUIRE(rows.size() == 2);
    for (const auto& row : rows) {
      double total = 0;
      CHECK_MESSAGE(!row.contains(off), off);  // what has no weight is not computed
      for (const auto& [name, weight] : terms)
        if (row.contains(name)) total += c.model.*weight * row[name].get<double>();
      CHECK_MESSAGE(row["total"].get<double>() == doctest::Approx(total).epsilon(1e-5), off);
    }
  }
}

TEST_CASE(
    "7. zero-shot by global, local and both on planted labels: chance level before training") {
  const auto c = config();
  const data::DataFolder folder(c.data, c.folder);
  const auto studies = folder.select(c.selection("test"));
  std::vector<std::string> texts;
  for (const auto& s : studies) {
    texts.push_back(s.findings);
    texts.push_back(s.impression);
  }
  const auto vocabulary = data::train_wordpiece(texts, 150);
  const data::Dataset dataset(folder, studies, vocabulary, c.dataset());
  const auto prompts =
      task::read_prompts(fs::path(HYBRIDMED_REFERENCE) / "../../configs/phantom_prompts.json");
  std::map<std::string, std::vector<double>> means;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    auto model_config = c.model;
    model_config.vocab = static_cast<Index>(vocabulary.size());
    auto m = model::make_hybridmed<T, B>(model_config);
    nn::initialise(m, seed);
    const auto embedded =
        task::embed_dataset<T, B>(m, dataset, 40, 0, [](std::size_t, std::size_t) {});
    std::vector<task::Figure> figures;
    task::zero_shot_figures(
        prompts, task::zero_shot<T, B>(m, vocabulary, c.selection("").cleaning, prompts, embedded),
        studies, folder.labels(), figures);
    for (const auto& f : figures)
      if (f.name.find("mean of labels") != std::string::npos)
        means[f.name].push_back(f.value.value());
  }
  REQUIRE(means.size() == 3);
  for (const auto& [name, values] : means) {
    double mean = 0;
    for (double v : values) mean += v / static_cast<double>(values.size());
    CHECK_MESSAGE(std::abs(mean - 0.5) < 0.1, name, " ", mean);
  }
}
