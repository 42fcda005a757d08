// Wrong words: of the command line, and those that a run has never read.
#include <string>

#include "program/program.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

TEST_CASE(
    "a wrong word names the nearest: commands, options, splits, labels; --stop-after 0 and DICOM "
    "are plainly answered") {
  const ScratchFolder f;
  CHECK(holds(run("evaluat --run x").err, "did you mean 'evaluate'?"));
  CHECK(holds(run("zzzzzzzzzzzz").err, "The commands are pretrain, evaluate"));
  CHECK(holds(run("evaluate --promts x").err, "did you mean '--prompts'?"));
  CHECK(holds(run("--thread 2 evaluate").err, "did you mean '--threads'?"));
  CHECK(holds(
      run("evaluate" + trained().of_run() + "--data" + quoted(trained().data) + "--split tets").err,
      "did you mean 'test'?"));
  write(f.path / "prompts.json", R"({"efusion":{"positive":["a."],"negative":["b."]}})");
  CHECK(holds(run("evaluate" + trained().of_run() + "--data" + quoted(trained().data) +
                  "--prompts" + quoted(f.path / "prompts.json"))
                  .err,
              "did you mean 'effusion'?"));
  const Said s = run("pretrain --config x --run y --stop-after 0");
  CHECK(s.code != 0);
  CHECK_MESSAGE(holds(s.err, "at least 1"), s.err);
  write(f.path / "scan.dcm", std::string(128, '\0') + "DICM" + std::string(100, '\0'));
  const Said dicom = run("caption" + trained().of_run() + quoted(f.path / "scan.dcm"));
  CHECK(dicom.code == 1);
  CHECK_MESSAGE((holds(dicom.err, "DICOM") && holds(dicom.err, "convert it to PNG")), dicom.err);
}

TEST_CASE("words that a run has never read are named, and so is a training that is not finished") {
  const ScratchFolder f;
  write(f.path / "prompts.json",
        R"({"nodule":{"positive":["Rundherd q9."],"negative":["normal chest."]}})");
  Said s = run("classify" + trained().of_run() + "--prompts" + quoted(f.path / "prompts.json") +
               picture(0));
  CHECK(s.code == 0);
  CHECK_MESSAGE(holds(s.err, "the prompts of 'nodule': the run has never read the words 'q9'"),
                s.err);
  write(f.path / "same.json", R"({"nodule":{"positive":["nodule."],"negative":["nodule."]}})");
  CHECK(holds(
      run("classify" + trained().of_run() + "--prompts" + quoted(f.path / "same.json") + picture(0))
          .err,
      "stands on both sides"));
  CHECK_FALSE(holds(run("embed" + trained().of_run() + picture(0)).err, "not finished"));
  REQUIRE(run("pretrain --config" + quoted(trained().config) + "--run" + quoted(f.path / "short") +
              "--stop-after 2")
              .code == 130);
  CHECK(holds(run("embed --run" + quoted(f.path / "short") + picture(0)).err,
              "is not finished: these are the weights of step-00000002"));
  s = run("pretrain --run" + quoted(f.path / "short") + "--resume --stop-after 2");
  CHECK(s.code == 130);
  CHECK_MESSAGE(holds(s.err, "stopped after step 2"), s.err);
}
