# Fetches and checks out a repository as actions/checkout v6 does; action.yml in this folder runs it.
set -euo pipefail
fail() { echo "::error::$1"; exit 1; }

[ -z "$SSH_KEY" ] || fail "the stand-in serves Git by HTTP only; leave the secret PUSH_KEY unset here"
cd "$GITHUB_WORKSPACE"
[ -z "$(ls -A)" ] || find . -mindepth 1 -delete
echo "::add-mask::$TOKEN"
header="AUTHORIZATION: basic $(printf 'x-access-token:%s' "$TOKEN" | base64 | tr -d '\n')"
git init --quiet .
git remote add origin "$GITHUB_SERVER_URL/$GITHUB_REPOSITORY.git"
git config "http.$GITHUB_SERVER_URL/.extraheader" "$header"
git config advice.detachedHead false

# Without the input `ref`, check out the event's commit, which may no longer be the tip of its branch.
# With it, check out the tip of that ref, or the commit if it is a SHA.
if [ -z "$REF" ]; then
  ref=$GITHUB_REF commit=$GITHUB_SHA
elif [[ "$REF" =~ ^[0-9a-f]{40}$ ]]; then
  ref='' commit=$REF
else
  ref=$REF commit=''
  if [[ "$ref" != refs/* ]]; then
    if git ls-remote --exit-code --quiet origin "refs/heads/$ref" > /dev/null; then ref=refs/heads/$ref
    elif git ls-remote --exit-code --quiet origin "refs/tags/$ref" > /dev/null; then ref=refs/tags/$ref
    else fail "A branch or tag with the name '$ref' could not be found"; fi
  fi
fi
case $ref in
  refs/heads/*) local=refs/remotes/origin/${ref#refs/heads/} ;;
  refs/pull/*) local=refs/remotes/${ref#refs/} ;;
  *) local=$ref ;;
esac
wanted="+${commit:-$ref}${local:+:$local}"
if [ "$DEPTH" = 0 ]; then
  git fetch --quiet --no-tags origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
  # Fetch the commit itself if the branches do not have it: the branch may have moved since the event, and a pull
  # request's ref is not a branch.
  if [ -z "$commit" ] || [ "$(git rev-parse --verify --quiet "${local:-$commit}^{commit}")" != "$commit" ]; then
    git fetch --quiet --no-tags origin "$wanted"
  fi
else
  git fetch --quiet --no-tags --depth="$DEPTH" origin "$wanted"
fi
case $ref in
  refs/heads/*) git checkout --quiet --force -B "${ref#refs/heads/}" "$local" ;;
  *) git checkout --quiet --force --detach "${local:-$commit}" ;;
esac
[ -z "$commit" ] || [ "$(git rev-parse HEAD)" = "$commit" ] || fail "checked out $(git rev-parse HEAD), not $commit"
[ "$PERSIST" = true ] || git config --unset-all "http.$GITHUB_SERVER_URL/.extraheader"
