using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Which claim has which functions and groups on this host, and which PFs are having their VFs changed. A device has one
/// owner; a PF and its VFs can't have two. Not thread-safe: guarded by its user's lock.
/// </summary>
internal sealed class Reservations
{
    private readonly Dictionary<string, Share> _shares = new(StringComparer.Ordinal);

    /// <summary>PFs whose number of VFs is being changed.</summary>
    public Dictionary<PciAddress, BlockingWork> Resizing { get; } = [];

    public void Reserve(string claimUid, Share share) => _shares[claimUid] = share;

    public void Free(string claimUid) => _shares.Remove(claimUid);

    /// <summary>Whether the journal of any claim holds the function.</summary>
    public bool IsHeld(PciAddress address) => _shares.Values.Any(s => s.Addresses.Contains(address));

    /// <summary>Another claim ("namespace/name") with which the share would collide, and over what; null when none.</summary>
    public (string Claim, string What)? Conflict(string claimUid, Share wanted)
    {
        foreach ((string uid, Share held) in _shares)
        {
            if (uid != claimUid && held.Collision(wanted) is { } what)
                return (held.Claim, what);
        }

        return null;
    }

    /// <summary>Claims that hold the PF or a VF of it.</summary>
    /// <param name="pf">The PF.</param>
    /// <param name="hasVfs">False: it has none now, so that who held one before a reboot can only gain by there being some.</param>
    public IReadOnlyList<(string ClaimUid, string Claim)> HoldersOf(PciAddress pf, bool hasVfs) =>
        [
            .. _shares
                .Where(s => s.Value.Addresses.Contains(pf) || (hasVfs && s.Value.Parents.Contains(pf)))
                .Select(s => (s.Key, s.Value.Claim))
                .OrderBy(s => s.Key, StringComparer.Ordinal),
        ];

    /// <summary>What one claim takes.</summary>
    public sealed record Share(string Claim, HashSet<PciAddress> Addresses, HashSet<PciAddress> Parents, HashSet<int> Groups)
    {
        public static Share Of(JournalEntry entry) =>
            new(
                $"{entry.ClaimNamespace}/{entry.ClaimName}",
                entry.Devices.Select(d => d.Address).ToHashSet(),
                entry.Devices.Select(d => d.ParentAddress).OfType<PciAddress>().ToHashSet(),
                entry.Devices.Select(d => d.IommuGroup).OfType<int>().ToHashSet()
            );

        /// <summary>What a request's devices are part of now, and whether each of them is there with its group.</summary>
        public static (Share Share, bool IsWhole) Of(AssignmentRequest request, IHostFileSystem files)
        {
            var parents = new HashSet<PciAddress>();
            var groups = new HashSet<int>();
            bool isWhole = true;
            foreach (DeviceToTake device in request.Devices)
            {
                if (Inventory.ParentOf(files, device.Address) is { } pf)
                    parents.Add(pf);
                if (Inventory.GroupOf(files, device.Address) is { } group)
                    groups.Add(group);
                else
                    isWhole = false;
            }

            return (
                new Share(
                    $"{request.ClaimNamespace}/{request.ClaimName}",
                    request.Devices.Select(d => d.Address).ToHashSet(),
                    parents,
                    groups
                ),
                isWhole
            );
        }

        /// <summary>Both together.</summary>
        public Share And(Share other) =>
            this with
            {
                Addresses = Addresses.Union(other.Addresses).ToHashSet(),
                Parents = Parents.Union(other.Parents).ToHashSet(),
                Groups = Groups.Union(other.Groups).ToHashSet(),
            };

        public string? Collision(Share other)
        {
            if (Common(Addresses, other.Addresses) is { } both)
                return $"{both}";
            if (Common(Groups, other.Groups) is { } group)
                return $"a device of IOMMU group {group}";
            if (Common(Parents, other.Addresses) is { } pf)
                return $"a VF of {pf}";
            return Common(Addresses, other.Parents) is { } parent ? $"{parent}, the PF of the VF" : null;
        }

        private static T? Common<T>(HashSet<T> some, HashSet<T> others)
            where T : struct
        {
            foreach (T one in some)
            {
                if (others.Contains(one))
                    return one;
            }

            return null;
        }
    }
}
