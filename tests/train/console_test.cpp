// Rates as a person reads them, and signals as requests to stop.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <string>

#include "hybridmed/train/console.hpp"
#include "hybridmed/train/stop_on_signals.hpp"

using namespace hybridmed;

TEST_CASE("rates are told per second, or as the time that one takes") {
  CHECK(train::rate_text(12.34, "samples") == "12.3 samples/s");
  CHECK(train::rate_text(0.125, "samples") == "8.0 s a sample");
  CHECK(train::rate_text(0.004, "studies") == "4 min a study");
  CHECK(train::rate_text(0, "samples") == "-- samples/s");
  CHECK(train::rate_text(0, "studies") == "-- studies/s");
  CHECK(train::rate_text(0.25, "studies") == "4.0 s a study");
}

TEST_CASE("no rate above 0 reads as 0") {
  for (int power = -60; power <= 60; ++power) {
    const double rate = std::pow(10., power / 10.);
    const std::string text = train::rate_text(rate, "samples");
    CAPTURE(rate);
    CAPTURE(text);
    const std::size_t at = text.find("0.0");  // "10.0" is another number
    const bool within = at != std::string::npos && at > 0 && std::isdigit(text[at - 1]) != 0;
    CHECK((at == std::string::npos || within));
    CHECK(std::strtod(text.c_str(), nullptr) > 0);
  }
}

TEST_CASE("each StopOnSignals takes the first signal as a request, whatever came before") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    for (int round = 0; round < 2; ++round) {
      const train::StopOnSignals stop;
      if (interrupt_requested()) ::_exit(10 + round);
      ::kill(::getpid(), SIGTERM);
      for (int i = 0; i < 1000 && !interrupt_requested(); ++i) ::usleep(10000);
      if (!interrupt_requested()) ::_exit(20 + round);
    }
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
