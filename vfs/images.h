// The real pages::ImageFactory: SQLite files in one directory. Start-up and the apply lane.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "pages/image.h"
#include "vfs/database.h"

namespace vfs {

// `params` with name, id and page_size left empty. The factory keeps a table of open databases for NodeBinding::find.
class Images : public pages::ImageFactory {
 public:
  static std::unique_ptr<Images> make(DatabaseParams params);
  // Any thread; null when there is no open database of that name. Valid until close_all().
  virtual Database* find(const std::string& name) = 0;
  // Stops all databases (Database::close), with one deadline for them all.
  virtual void close_all(base::Micros deadline = INT64_MAX) = 0;
};

}  // namespace vfs
