using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>What counts against quotas: what claims ask for, by alias.</summary>
internal static class QuotaCounts
{
    /// <summary>What a claim asks for.</summary>
    public static DeviceCounts AskedBy(PassthroughClaim claim)
    {
        var counts = new DeviceCounts();
        foreach (ClaimRequest request in claim.Spec.Requests)
            counts.Add(request.Alias, request.Count);
        return counts;
    }

    /// <summary>What counts in a namespace: a claim by what it asks for, from its assignment until its devices are back.</summary>
    /// <param name="placed">The namespace's claims whose status names a node.</param>
    /// <param name="assigned">The namespace's assignments.</param>
    /// <param name="find">Finds a claim by its UID.</param>
    public static QuotaBook Book(
        IEnumerable<PassthroughClaim> placed,
        IEnumerable<PciAssignment> assigned,
        Func<string, PassthroughClaim?> find
    )
    {
        var book = new QuotaBook();
        foreach (PassthroughClaim claim in placed)
            book.Add(claim.Metadata.Uid!, AskedBy(claim));
        foreach (PciAssignment assignment in assigned.Where(a => !book.Has(a.ClaimUid)))
            book.Add(assignment.ClaimUid, find(assignment.ClaimUid) is { } claim ? AskedBy(claim) : Of(assignment));
        return book;
    }

    /// <summary>What an assignment gives away whose claim is gone: it is known by the aliases that the devices were asked for by.</summary>
    private static DeviceCounts Of(PciAssignment assignment)
    {
        var counts = new DeviceCounts();
        foreach (AssignedDevice device in assignment.Devices.Where(d => d.Companion != true))
            counts.Add(device.Alias, 1);
        return counts;
    }

    /// <summary>The limits of a quota.</summary>
    public static IEnumerable<DeviceLimit> LimitsOf(PciQuota quota) => quota.Spec.Limits.Select(l => new DeviceLimit(l.Alias, l.Devices));

    /// <summary>How far an excess is one, for a sentence: "3 of the 4 devices of alias a1 that it may have".</summary>
    public static string Text(QuotaExcess excess) =>
        $"{excess.Used} of the {Counted.Of(excess.Limit.Devices, "device")} "
        + (excess.Limit.Alias == DeviceCounts.All ? "of all aliases together" : $"of alias {excess.Limit.Alias}")
        + " that it may have";
}
