#pragma once
// A table of studies, with what is wrong with some of them.
#include <string>
#include <vector>

namespace hybridmed::test {

using Row = std::vector<std::string>;

inline const char* studies_csv =
    "study_id,split,frontal_images,findings,impression\n"
    "s1,train,a.png;b.png,The heart is NORMAL.,Normal chest.\n"
    "s2,train,c.png,,No effusion.\n"
    "s3,valid,d.png,Clear.,\n"
    "s4,train,,Clear.,Normal.\n"
    "s5,train,e.png,XXXX,___\n"
    "s1,train,f.png,Again.,Again.\n"
    ",train,g.png,Nobody.,Nobody.\n"
    "s6,test,h.png,\"One, two.\n\nThree.\",Four.\n";

}  // namespace hybridmed::test
