// Labels by study: present, absent, uncertain, unknown, or something else.
#include <doctest/doctest.h>

#include "errors.hpp"
#include "hybridmed/data/studies.hpp"
#include "table.hpp"

using namespace hybridmed;
using namespace hybridmed::test;
using namespace hybridmed::data;

TEST_CASE("labels: present, absent, uncertain or unknown; not indexed studies left out") {
  const test::ScratchFolder f;
  f.write("studies.csv", studies_csv);
  CHECK(DataFolder(f.path).labels().of.empty());  // labels.csv is optional
  f.write(
      "labels.csv",
      "study_id,split,not_indexed,normal,effusion\ns1,train,0,1,0\ns2,train,1,,\ns3,valid,0,0,1\n");
  const auto labels = DataFolder(f.path).labels();
  CHECK(labels.names == Row{"normal", "effusion"});
  CHECK(labels.of.size() == 2);
  CHECK(labels.of.at("s1") == std::vector<int>{1, 0});
  CHECK(labels.of.at("s3") == std::vector<int>{0, 1});
  for (const auto& [value, want] : {std::pair{"", Labels::unknown},
                                    {"-1", Labels::uncertain},
                                    {"-1.0", Labels::uncertain},
                                    {"1.0", 1},
                                    {"0.0", 0},
                                    {" 1", 1}}) {
    f.write("labels.csv",
            std::string("study_id,not_indexed,normal,effusion\ns1,0,1,0\ns3,0,0,") + value + "\n");
    CHECK_MESSAGE((DataFolder(f.path).labels().of.at("s3") == std::vector<int>{0, want}), value);
  }
  for (const char* value : {"2", "yes", "nan", "1;0", "-2"}) {
    f.write("labels.csv",
            std::string("study_id,not_indexed,normal,effusion\ns1,0,1,0\ns3,0,0,") + value + "\n");
    const auto other = DataFolder(f.path).labels();
    CHECK(other.names ==
          Row{"normal"});  // the column holds something else: an error only for who needs it
    CHECK(other.at("normal") == 0);
    const std::string e = error_of([&] { other.at("effusion"); });
    CHECK_MESSAGE(holds(e, (f.path / "labels.csv").string()), e);
    CHECK_MESSAGE(holds(e, "line 3"), e);
    CHECK_MESSAGE(holds(e, "'effusion'"), e);
    CHECK_MESSAGE(holds(e, "'" + std::string(value) + "'"), e);
  }
  f.write("labels.csv", "study,normal\ns1,1\n");
  const std::string e = error_of([&] { DataFolder(f.path).labels(); });
  CHECK_MESSAGE(holds(e, "'study_id'"), e);
}
