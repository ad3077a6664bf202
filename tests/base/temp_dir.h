// TempDir: a fresh directory for one test, removed with everything in it. Callers: tests that need the real file system.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

#include "base/check.h"

namespace testing_base {

class TempDir {
 public:
  TempDir() {
    const char* const root = ::getenv("TMPDIR");
    path_ = std::string(root != nullptr ? root : "/tmp") + "/hql_test_XXXXXX";
    CHECK(::mkdtemp(path_.data()) != nullptr);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace testing_base
