#pragma once
// Scores with their labels, and the prompts of two labels.
#include <vector>

#include "hybridmed/task/calibration.hpp"

namespace hybridmed::test {

using Scores = std::vector<double>;
using Labels = std::vector<int>;

inline const task::LabelPrompts effusion = {
    "pleural \"effusion\"",
    {"a pleural effusion.", "Erguss rechts \xC3\xBC.", "back\\slash"},
    {"no effusion."},
    task::PromptEnsemble::mean};
inline const task::LabelPrompts nodule = {"nodule", {"a nodule."}, {"clear.", "no nodule."}};

}  // namespace hybridmed::test
