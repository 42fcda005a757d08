#pragma once
// The core in one include: the CPU backend, models, objectives, the optimizer and the training
// step. Needs Eigen alone. Data, files, training runs, tasks and pictures are components of their
// own, with headers of their own.
#include "hybridmed/autograd/arithmetic.hpp"
#include "hybridmed/autograd/recompute.hpp"
#include "hybridmed/backend/cpu/backend.hpp"
#include "hybridmed/nn/initialise.hpp"
#include "hybridmed/optim/schedule.hpp"
#include "hybridmed/system/systems.hpp"
#include "hybridmed/train/step.hpp"
