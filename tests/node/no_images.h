// NoImages: the factory of a node whose databases cannot be opened, but for what their sync points say. Callers: tests of what needs no image.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pages/image.h"

namespace node {

class NoImages final : public pages::ImageFactory {
 public:
  base::LogId base;  // of every database; {}: it has no files

  base::Result<std::unique_ptr<pages::DatabaseImage>> create(const pages::CreateDatabase&, base::LogId) override {
    return none();
  }
  base::Result<std::unique_ptr<pages::DatabaseImage>> open(const std::string&, base::DatabaseId, std::uint32_t,
                                                           const std::vector<pages::RedoCandidate>&,
                                                           const pages::Adopt&) override {
    return none();
  }
  base::Status set_aside(const std::string&, const std::string&) override { return none(); }
  base::Result<base::LogId> recorded_base(const std::string&) override {
    return base.index ? base::Result<base::LogId>(base) : base::Result<base::LogId>(none());
  }

 private:
  static base::Error none() { return base::make_error(base::Code::kNotFound, "no databases here"); }
};

}  // namespace node
