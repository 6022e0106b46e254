using System.Text.Json;
using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Agent;

/// <summary>
/// Cuts a PciNode's status to its share of the object (<see cref="StoredSize.Status"/>) and to what the schema takes. Pure.
/// </summary>
internal static class StatusShare
{
    /// <summary>The most items that each list takes.</summary>
    internal const int Most = 1024;

    // Texts that are cut when there are too many: enough for what is wrong, not for what to do.
    private const int ShortText = 96;
    private const int PoolShare = 100_000;
    private const int UnmatchedShare = 60_000;

    // Conditions, versions, NUMA nodes.
    private const int Rest = 60_000;

    /// <summary>
    /// What the agent has to say of claims: all of it. A claim that is on its way out is never left out, since a claim that nobody names is
    /// gone; one that the spec names and that has nothing yet is the first to go.
    /// </summary>
    /// <param name="all">What is to be said.</param>
    /// <param name="wanted">Whether the spec names a claim.</param>
    /// <param name="complete">False when one was left out that the spec doesn't name.</param>
    public static IReadOnlyList<AssignmentStatus> Assignments(
        IReadOnlyList<AssignmentStatus> all,
        Func<string, bool> wanted,
        out bool complete
    )
    {
        IReadOnlyList<AssignmentStatus> kept =
            all.Count <= Most ? all : [.. all.OrderBy(Rank).Take(Most).OrderBy(a => a.ClaimUid, StringComparer.Ordinal)];
        complete = kept.Count(a => !wanted(a.ClaimUid)) == all.Count(a => !wanted(a.ClaimUid));
        return Size(kept) <= StoredSize.Status / 2 ? kept : [.. kept.Select(a => a with { Message = Fitted.Text(a.Message, ShortText) })];

        int Rank(AssignmentStatus a) =>
            !wanted(a.ClaimUid)
                ? 0
                : a.State switch
                {
                    HoldingState.Preparing => 3,
                    HoldingState.Rejected => 2,
                    _ => 1,
                };
    }

    /// <summary>
    /// The devices that fit beside the claims. IOMMU groups stay whole: a group that is shown in part would be given away in part. Those
    /// that are given away come first, then those of lower addresses; texts are cut before devices are left out.
    /// </summary>
    public static IReadOnlyList<PciNodeDevice> Devices(
        IReadOnlyList<PciNodeDevice> all,
        Func<PciNodeDevice, bool> isHeld,
        IReadOnlyList<AssignmentStatus> assignments
    )
    {
        int room = StoredSize.Status - Rest - PoolShare - UnmatchedShare - Size(assignments);
        var sized = all.Select(d => (Device: d, Size: Size(d))).ToList();
        if (sized.Sum(d => (long)d.Size) > room)
            sized = [.. all.Select(Brief).Select(d => (d, Size(d)))];
        if (all.Count <= Most && sized.Sum(d => (long)d.Size) <= room)
            return [.. sized.Select(d => d.Device)];

        var kept = new HashSet<string>();
        IEnumerable<IGrouping<string, (PciNodeDevice Device, int Size)>> groups = sized.GroupBy(d =>
            d.Device.IommuGroup is { } group ? group.ToString(System.Globalization.CultureInfo.InvariantCulture) : d.Device.Address
        );
        foreach (IGrouping<string, (PciNodeDevice Device, int Size)> group in groups.OrderByDescending(g => g.Any(d => isHeld(d.Device))))
        {
            (int count, int size) = (group.Count(), group.Sum(d => d.Size));
            if (kept.Count + count > Most || size > room)
                continue;
            room -= size;
            kept.UnionWith(group.Select(d => d.Device.Address));
        }

        return [.. sized.Select(d => d.Device).Where(d => kept.Contains(d.Address))];
    }

    /// <summary>The pools that fit: they are for people, and nothing is decided by them.</summary>
    public static IReadOnlyList<PciPool> Pools(IReadOnlyList<PciPool> all) =>
        Fitted.Items(all, Most, PoolShare, p => JsonSerializer.SerializeToUtf8Bytes(p, PciOperatorJsonContext.Default.PciPool).Length + 1);

    /// <summary>The unmatched devices that fit: they too are for people alone.</summary>
    public static IReadOnlyList<PciNodeDevice> Unmatched(IReadOnlyList<PciNodeDevice> all) =>
        Fitted.Items(all, PciNodeStatus.MostUnmatched, UnmatchedShare, Size);

    private static PciNodeDevice Brief(PciNodeDevice device) =>
        device with
        {
            Name = Fitted.Text(device.Name, ShortText / 2),
            Reason = Fitted.Text(device.Reason, ShortText),
            Problems = device.Problems is null ? null : [.. device.Problems.Select(p => p with { Message = null })],
        };

    private static int Size(PciNodeDevice device) =>
        StoredSize.Of(JsonSerializer.SerializeToUtf8Bytes(device, PciOperatorJsonContext.Default.PciNodeDevice));

    private static int Size(IReadOnlyList<AssignmentStatus> assignments) =>
        assignments.Sum(a => StoredSize.Of(JsonSerializer.SerializeToUtf8Bytes(a, PciOperatorJsonContext.Default.AssignmentStatus)));
}
