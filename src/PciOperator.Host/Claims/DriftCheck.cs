using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Drift and loss: each scan compares what the journal says is bound with what is there. Nothing is written to the host
/// here; a claim whose devices are gone, moved or swapped is Stuck until they are back, then it is prepared again.
/// </summary>
/// <param name="files">The host.</param>
/// <param name="looked">The host as a look at everything sees it.</param>
/// <param name="table">The claims.</param>
internal sealed class DriftCheck(IHostFileSystem files, TimedReadFileSystem looked, ClaimTable table)
{
    /// <inheritdoc cref="PassthroughHost.IsDrift"/>
    public static bool IsDrift(string? reason) => reason is HoldingReasons.DeviceGone or HoldingReasons.DriftDetected;

    /// <summary>Publishes what a look at the host says of the entries that were settled before it.</summary>
    public void Notice(List<JournalEntry> settled, IReadOnlyList<HostFunction> seen)
    {
        var found = seen.ToDictionary(f => f.Address);
        foreach (JournalEntry entry in settled)
        {
            RefusalException? drift = DriftOf(entry, found) ?? Unbound(entry, found);
            Holding? before = table.HoldingOf(entry.ClaimUid);
            Holding? after = drift switch
            {
                // A claim that is Stuck for another reason is worked on: what it waits for is the last word of that.
                { Reason: HoldingReasons.NotBound } when before is { State: HoldingState.Prepared } => HoldingFacts.Of(
                    entry,
                    looked,
                    HoldingState.Stuck,
                    drift.Reason,
                    drift.Message
                ),
                { Reason: HoldingReasons.NotBound } or null when before is { State: HoldingState.Stuck } && IsDrift(before.Reason) =>
                    HoldingFacts.Of(entry, looked, HoldingState.Preparing),
                { Reason: not HoldingReasons.NotBound } => HoldingFacts.Of(entry, looked, HoldingState.Stuck, drift.Reason, drift.Message),
                _ => null,
            };
            if (after is not null)
                table.PublishIfStill(entry, before, after);
        }
    }

    /// <summary>A device that is gone or is another one, or a group that has changed; null when all are what they were.</summary>
    private RefusalException? DriftOf(JournalEntry entry, Dictionary<PciAddress, HostFunction> found)
    {
        var gone = new List<string>();
        var other = new List<string>();
        foreach (JournalDevice device in entry.Devices)
        {
            var given = KnownDevice.Of(device);
            if (!found.TryGetValue(device.Address, out HostFunction? now))
            {
                // What is there and can't be read is not gone.
                if (!files.Exists(SysfsPaths.Device(device.Address)))
                {
                    gone.Add(
                        $"{device.Address} is gone from the bus{VfsOf(device)}.{DeviceIdentity.Elsewhere(device.Address, given, found.Values)}"
                    );
                }
            }
            else if (DeviceIdentity.Difference(device.Address, given, KnownDevice.Of(now), now.IsStillOurs) is { } difference)
            {
                other.Add(difference + DeviceIdentity.Elsewhere(device.Address, given, found.Values));
            }
            else if (now.Function.IommuGroup != device.IommuGroup && now.IsStillOurs)
            {
                other.Add(
                    $"{device.Address} is in {GroupName(now.Function.IommuGroup)} now and was in {GroupName(device.IommuGroup)} when it was bound."
                );
            }
        }

        HashSet<PciAddress> own = [.. entry.Devices.Select(d => d.Address)];
        // The number of a group that has gone is given to the next one; a device that came back has a new group, whose number says nothing.
        // The VFs of a PF were gone when it was given.
        HashSet<int> groups =
        [
            .. entry
                .Devices.Where(d => found.TryGetValue(d.Address, out HostFunction? f) && f.IsStillOurs)
                .Select(d => d.IommuGroup)
                .OfType<int>(),
        ];
        foreach (
            HostFunction stranger in found.Values.Where(f =>
                f.Function.IommuGroup is { } g
                && groups.Contains(g)
                && WholeGroup.IsMember(f.Function, _ => false)
                && !own.Contains(f.Address)
            )
        )
        {
            other.Add(
                $"IOMMU group {stranger.Function.IommuGroup} also holds {stranger.Address} ({stranger.Function.VendorId}:{stranger.Function.ProductId}) now, which came after the group was given."
            );
        }

        if (gone.Count + other.Count == 0)
            return null;
        string then =
            other.Count == 0
                ? "The claim gets it back when it returns; if it doesn't, delete the claim."
                : "Nothing of the claim's is bound here until that is put right; or delete the claim.";
        return new RefusalException(
            other.Count == 0 ? HoldingReasons.DeviceGone : HoldingReasons.DriftDetected,
            string.Join(' ', [.. other, .. gone, then])
        );
    }

    /// <summary>A device that somebody took off its driver.</summary>
    private static RefusalException? Unbound(JournalEntry entry, Dictionary<PciAddress, HostFunction> found)
    {
        foreach (JournalDevice device in entry.Devices)
        {
            if (found.TryGetValue(device.Address, out HostFunction? now) && now.Driver != device.TargetDriver)
            {
                return new RefusalException(
                    HoldingReasons.NotBound,
                    $"{device.Address} is on {now.Driver ?? "no driver"} instead of {device.TargetDriver}: somebody else unbound it, it is leaving the bus, or it was plugged in again."
                );
            }
        }

        return null;
    }

    private string VfsOf(JournalDevice device) =>
        device.ParentAddress is { } pf
        && Inventory.Number(BootFacts.Optional(() => looked.ReadText($"{SysfsPaths.Device(pf)}/sriov_numvfs"))) is { } count
            ? $": its physical function {pf} has {count} virtual functions now"
            : "";

    private static string GroupName(int? group) => group is { } number ? $"IOMMU group {number}" : "no IOMMU group";
}
