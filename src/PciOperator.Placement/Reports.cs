using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Placement;

/// <summary>
/// What a node's agent reports, as far as it can be meant. An agent's token is one of many, and the host under it may be
/// anybody's: a device whose address or ids are none is left out, alone, and words lose what only a terminal would read.
/// </summary>
internal static class Reports
{
    /// <summary>A PciNode with what can be read of its status; the very object when that is all of it.</summary>
    public static PciNode Readable(PciNode node)
    {
        if (node.Status is not { } status || IsClean(status))
            return node;
        var seen = new HashSet<string>();
        return node with
        {
            Status = status with
            {
                Devices = status.Devices is { } devices
                    ? [.. devices.Where(d => CanBeMeant(d) && seen.Add(d.Address)).Select(Clean)]
                    : null,
                Unmatched = status.Unmatched is { } unmatched
                    ? [.. unmatched.Where(d => CanBeMeant(d) && seen.Add(d.Address)).Select(Clean)]
                    : null,
                Assignments = status.Assignments is { } assignments ? [.. assignments.DistinctBy(a => a.ClaimUid).Select(Clean)] : null,
                Pools = status.Pools is { } pools ? [.. pools.Where(CanBeMeant)] : null,
                Conditions = status.Conditions is { } conditions
                    ? [.. conditions.Select(c => c with { Message = Clean(c.Message) ?? "" })]
                    : null,
            },
        };
    }

    /// <summary>How many devices of a PciNode's status can't be meant.</summary>
    public static int CountUnreadable(PciNode node) => (node.Status?.Devices ?? []).Count(d => !CanBeMeant(d));

    /// <summary>A text without control characters and without those that turn its direction.</summary>
    public static string? Clean(string? text) =>
        text is null || !text.Any(IsUnseen) ? text : string.Concat(text.Select(c => IsUnseen(c) ? ' ' : c));

    /// <summary>Whether a text is a PCI address as the kernel and this project write it.</summary>
    public static bool IsAddress(string? text) =>
        PciAddress.TryParse(text, out _) && !text.Any(char.IsAsciiLetterUpper) && (text.Length == "0000:00:00.0".Length || text[0] != '0');

    private static bool IsId(string? text) => text is { Length: 4 } && text.All(char.IsAsciiHexDigitLower);

    private static bool IsUnseen(char c) =>
        char.IsControl(c) || c is '\u2028' or '\u2029' or (>= '\u202a' and <= '\u202e') or (>= '\u2066' and <= '\u2069');

    private static bool CanBeMeant(PciNodeDevice device) =>
        IsAddress(device.Address)
        && IsId(device.VendorId)
        && IsId(device.ProductId)
        && (string.IsNullOrEmpty(device.SubsystemVendorId) || IsId(device.SubsystemVendorId))
        && (string.IsNullOrEmpty(device.SubsystemProductId) || IsId(device.SubsystemProductId))
        && (string.IsNullOrEmpty(device.ParentAddress) || IsAddress(device.ParentAddress))
        && device is { NumaNode: null or >= 0, Socket: null or >= 0, IommuGroup: null or >= 0, TotalVfs: null or >= 0 };

    private static bool CanBeMeant(PciPool pool) =>
        (string.IsNullOrEmpty(pool.VendorId) || IsId(pool.VendorId)) && (string.IsNullOrEmpty(pool.ProductId) || IsId(pool.ProductId));

    private static bool IsClean(PciNodeStatus status)
    {
        var addresses = new HashSet<string>();
        var uids = new HashSet<string>();
        return (status.Devices ?? [])
                .Concat(status.Unmatched ?? [])
                .All(d => CanBeMeant(d) && addresses.Add(d.Address) && ReferenceEquals(Clean(d), d))
            && (status.Assignments ?? []).All(a =>
                uids.Add(a.ClaimUid) && (a.Devices ?? []).All(d => IsAddress(d.Address) && IsSeen(d.Driver)) && IsSeen(a.Message)
            )
            && (status.Pools ?? []).All(CanBeMeant)
            && (status.Conditions ?? []).All(c => IsSeen(c.Message));
    }

    private static bool IsSeen(string? text) => ReferenceEquals(Clean(text), text);

    private static PciNodeDevice Clean(PciNodeDevice device) =>
        IsSeen(device.Reason) && IsSeen(device.Driver) && IsSeen(device.StableId)
            ? device
            : device with
            {
                Reason = Clean(device.Reason),
                Driver = Clean(device.Driver),
                StableId = Clean(device.StableId),
            };

    private static AssignmentStatus Clean(AssignmentStatus report) =>
        report with
        {
            Message = Clean(report.Message),
            Devices = report.Devices is { } devices
                ? [.. devices.Where(d => IsAddress(d.Address)).DistinctBy(d => d.Address).Select(d => d with { Driver = Clean(d.Driver) })]
                : null,
        };
}
