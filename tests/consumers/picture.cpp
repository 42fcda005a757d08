// A consumer of the component picture: a loss curve as a PNG.
#include <hybridmed/picture/curves.hpp>

#include <cstdio>
#include <filesystem>

int main() {
  hybridmed::picture::Curve curve;
  curve.name = "loss";
  curve.x = {0, 1, 2};
  curve.y = {3, 2, 1};
  hybridmed::picture::draw_curves("curve.png", {{"training", {curve}}}, "step");
  return std::filesystem::file_size("curve.png") > 0 ? 0 : (std::puts("no picture"), 1);
}
