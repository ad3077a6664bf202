// The words of hql_status() for a database's state (pages/image.h).
#include "pages/image.h"

namespace pages {

const char* to_string(ImageState state) {
  switch (state) {
    case ImageState::kOk:
      return "ok";
    case ImageState::kParked:
      return "parked";
    case ImageState::kInstalling:
      return "installing";
    case ImageState::kDiverged:
      return "diverged";
    case ImageState::kForeignWrite:
      return "foreign_write";
    case ImageState::kAheadOfLog:
      return "ahead_of_log";
    case ImageState::kDropped:
      return "dropped";
  }
  return "unknown";
}

}  // namespace pages
