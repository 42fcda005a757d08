// Bad tables of studies and labels, and reports that are left out.
#include "hybridmed/data/studies.hpp"
#include "readers.hpp"

using namespace hybridmed;
using namespace hybridmed::test;

namespace {

void open_folder(const fs::path& table) { data::DataFolder(table.parent_path()).select({}); }
void read_labels(const fs::path& file) {
  const data::Labels labels = data::DataFolder(file.parent_path()).labels();
  for (const auto& [column, value] : labels.other_columns) labels.at(column);
}
BadInput table(const std::string& name, const std::string& text,
               std::vector<std::string> patterns) {
  return with_bytes(name, "studies.csv", text, open_folder, std::move(patterns));
}
BadInput labels(const std::string& name, const std::string& text,
                std::vector<std::string> patterns) {
  return {name,
          [=](const fs::path& folder) {
            write_bytes(folder / "studies.csv", three_studies);
            write_bytes(folder / "labels.csv", text);
            return folder / "labels.csv";
          },
          read_labels, std::move(patterns)};
}

}  // namespace

TEST_CASE("tables: missing columns, broken quoting, wrong fields") {
  check({
      table("no study column", "split,frontal_images,findings,impression\ntrain,a.png,x.,y.\n",
            {"'study_id'", "missing"}),
      table("no image column", "study_id,split,findings,impression\ns1,train,x.,y.\n",
            {"'frontal_images'", "missing"}),
      table("no findings column", "study_id,split,frontal_images,impression\ns1,train,a.png,y.\n",
            {"'findings'", "missing"}),
      table("no impression column, but one like it",
            "study_id,split,frontal_images,findings,impresion\ns1,train,a.png,x.,y.\n",
            {"'impression'", "missing", "'impresion'"}),
      table("a bar between the columns",
            "study_id|split|frontal_images|findings|impression\ns1|train|a.png|x.|y.\n",
            {"'study_id'", "missing", "--set delimiter="}),
      table("a quote that is never closed",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.png,\"Clear,\nstill "
            "open.\n",
            {"line 3", "never closed"}),
      table("text after a closing quote",
            "study_id,frontal_images,findings,impression\ns1,a.png,\"One.\nTwo.\" three,y.\n",
            {"line 3", "after a closing quote"}),
      table("a quote inside an unquoted field",
            "study_id,frontal_images,findings,impression\ns1,a.png,5\" nodule,y.\n",
            {"line 2", "inside an unquoted field"}),
      table("an unquoted comma: too many fields",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.png,One, two.,y.\n",
            {"line 3", "expected 4 fields, got 5"}),
      table("a row cut short",
            "study_id,frontal_images,findings,impression\ns1,a.png,x.,y.\ns2,b.p",
            {"line 3", "expected 4 fields, got 2"}),
      table("a column twice", "study_id,frontal_images,findings,findings,impression\n",
            {"line 1", "'findings'", "twice"}),
      table("an empty file", "", {"empty"}),
      {"a missing table",
       [](const fs::path& folder) { return folder / "studies.csv"; },
       open_folder,
       {"No such file"}},
      {"a missing folder",
       [](const fs::path& folder) { return folder / "nowhere"; },
       [](const fs::path& p) { data::DataFolder{p}; },
       {"no such folder"}},
      labels("labels without the study column", "study,normal\ns1,1\n",
             {"neither a column 'study_id' nor 'frontal_images'", "--set column_study=NAME"}),
      labels("labels with a broken quote", "study_id,normal\ns1,1\ns2,\"0\n",
             {"line 3", "never closed"}),
      labels("a label that is neither 0 nor 1", "study_id,normal,nodule\ns1,1,0\ns2,0,maybe\n",
             {"line 3", "'nodule'", "expected 0, 1, -1"}),
  });
}

TEST_CASE("an empty report is left out with its line and the reason; the others stay") {
  struct Row {
    const char *name, *sections, *reason;
    bool needs_both;
  };
  for (const Row& row :
       {Row{"both sections absent", ",", "neither findings nor impression", false},
        {"white space", "\"  \n \", ", "neither findings nor impression", false},
        {"nothing is left by cleaning", "XXXX,___", "neither findings nor impression", false},
        {"no findings where both are needed", ",Normal.", "no findings", true},
        {"no impression where both are needed", "Clear.,", "no impression", true}}) {
    INFO(row.name);
    const ScratchFolder f;
    write_bytes(
        f.path / "studies.csv",
        std::string(
            "study_id,frontal_images,findings,impression\ns1,a.png,Clear.,Normal.\ns2,b.png,") +
            row.sections + "\ns3,c.png,Clear.,Normal.\n");
    std::vector<data::Rejected> rejected;
    const auto kept =
        data::DataFolder(f.path).select({.split = {}, .needs_both = row.needs_both}, &rejected);
    REQUIRE(kept.size() == 2);
    CHECK((kept[0].id == "s1" && kept[1].id == "s3"));
    REQUIRE(rejected.size() == 1);
    CHECK(rejected[0].study == "s2");
    CHECK(rejected[0].line == 3);
    CHECK(rejected[0].reason == row.reason);
  }
}
