using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Whether what is at an address is the device that was given away. An address names a place; a card is known by its serial
/// number, else by its physical slot, else by where it sits below the host bridge.
/// </summary>
/// <remarks>
/// A serial number says something only when it can be read, and only against one of the same kind: VPD's and the Device Serial Number
/// are two numbers. Both can be written by whoever has the device, and cards are sold with the same one: what the kernel still has of
/// ours counts for more, and a number that is seen twice has its place added (<see cref="Twins"/>).
/// </remarks>
internal static class DeviceIdentity
{
    /// <summary>Of the serial number in VPD.</summary>
    public const string VpdPrefix = "vpd:";

    /// <summary>Of the Device Serial Number; agents before this one wrote VPD's number so, too.</summary>
    public const string DsnPrefix = "serial:";

    private const string SlotPrefix = "slot:";
    private const string PathPrefix = "path:";

    /// <summary>
    /// How a function differs from the device that was given, as a sentence; null when it is that device, or nothing says that it isn't.
    /// </summary>
    /// <param name="at">The address of both.</param>
    /// <param name="given">The device that was given.</param>
    /// <param name="now">The function that is there now.</param>
    /// <param name="stillOurs">The kernel still has what was done to the device (a driver_override, a VFIO driver): it never left, and
    /// a serial number that is gone (its guest resets it, say) is no sign of another card.</param>
    public static string? Difference(PciAddress at, KnownDevice given, KnownDevice now, bool stillOurs)
    {
        if (now.VendorId != given.VendorId || now.ProductId != given.ProductId)
            return $"{at} is {now.VendorId}:{now.ProductId} now and was {given.VendorId}:{given.ProductId} when it was given: cards were moved or changed.";
        return given.StableId is { } was && was != now.StableId && now.Evidence is { } evidence && IsOther(was, evidence, stillOurs)
            ? $"{at} is another {now.VendorId}:{now.ProductId} now ({now.StableId}) than the one that was given ({was})."
            : null;
    }

    /// <summary>
    /// Where a card that is known by its serial number is now, as a sentence to follow another; empty when it isn't seen, or more than
    /// once.
    /// </summary>
    public static string Elsewhere(PciAddress at, KnownDevice given, IEnumerable<HostFunction> seen)
    {
        if (!IsSerial(given.StableId))
            return "";
        HostFunction[] same =
        [
            .. seen.Where(f =>
                f.Address != at
                && f.Function.StableId is { } id
                && Aliases(id).Contains(given.StableId, StringComparer.Ordinal)
                && f.Function.VendorId == given.VendorId
                && f.Function.ProductId == given.ProductId
            ),
        ];
        return same is [var moved] ? $" The card that was given ({given.StableId}) is at {moved.Address} now." : "";
    }

    /// <summary>Whether a stable id is a serial number.</summary>
    public static bool IsSerial(string? stableId) =>
        stableId is not null
        && (stableId.StartsWith(DsnPrefix, StringComparison.Ordinal) || stableId.StartsWith(VpdPrefix, StringComparison.Ordinal));

    /// <summary>A stable id without the place that was added to a serial number.</summary>
    public static string WithoutPlace(string stableId) => PlaceAt(stableId) is >= 0 and var at ? stableId[..at] : stableId;

    /// <summary>The id itself, and how an agent before this one wrote it.</summary>
    public static IEnumerable<string> Aliases(string stableId)
    {
        yield return stableId;
        if (stableId.StartsWith(VpdPrefix, StringComparison.Ordinal))
            yield return DsnPrefix + stableId[VpdPrefix.Length..];
        if (BusAt(stableId) is >= 0 and var bus)
            yield return stableId[..bus] + stableId[(stableId.IndexOf(':', bus) + 1)..];
    }

    /// <summary>
    /// Whether two ids may be of one device that is known to be at one address: they differ by nothing but an added place, or by
    /// who wrote them.
    /// </summary>
    public static bool MayBeSame(string id, string other) =>
        Aliases(WithoutPlace(id)).Intersect(Aliases(WithoutPlace(other)), StringComparer.Ordinal).Any();

    private static bool IsOther(string was, Evidence now, bool stillOurs)
    {
        string id = WithoutPlace(was);
        if (id.Length < was.Length && IsOtherPlace(was[(id.Length + 1)..], now.Place))
            return true;
        if (!IsSerial(id))
            return IsOtherPlace(id, now.Place);
        int start = id.IndexOf(':', StringComparison.Ordinal) + 1;
        int end = id.LastIndexOf('.');
        string number = end > start ? id[start..end] : id[start..];
        return id.StartsWith(VpdPrefix, StringComparison.Ordinal) || !SerialNumber.IsDeviceSerialNumber(number)
            ? now.Vpd.Denies(number, stillOurs)
            : now.Vpd.Number != number && now.Dsn.Denies(number, stillOurs);
    }

    /// <summary>A slot gets its name when the hot-plug driver is loaded: a path against a slot says nothing.</summary>
    private static bool IsOtherPlace(string was, string now) =>
        now.StartsWith(was[..(was.IndexOf(':', StringComparison.Ordinal) + 1)], StringComparison.Ordinal)
        && !Aliases(now).Contains(was, StringComparer.Ordinal);

    private static int PlaceAt(string stableId) =>
        !IsSerial(stableId)
            ? -1
            : Math.Max(
                stableId.LastIndexOf("@" + SlotPrefix, StringComparison.Ordinal),
                stableId.LastIndexOf("@" + PathPrefix, StringComparison.Ordinal)
            );

    /// <summary>Where a path says how many buses beyond its PF's a VF is: "/+1:02.1".</summary>
    private static int BusAt(string stableId) =>
        stableId.StartsWith(PathPrefix, StringComparison.Ordinal)
        && stableId.LastIndexOf("/+", StringComparison.Ordinal) is >= 0 and var slash
            ? slash + 1
            : -1;
}

/// <summary>A serial number as it was read.</summary>
/// <param name="Number">Null: the device has none, or it could not be read.</param>
/// <param name="Unreadable">The device may have one, and it could not be read: that says nothing.</param>
internal readonly record struct ReadSerial(string? Number, bool Unreadable)
{
    /// <summary>Whether it says that the device is not the one with that number.</summary>
    public bool Denies(string number, bool stillOurs) => Number is null ? !Unreadable && !stillOurs : Number != number;
}

/// <summary>All that a function can be known by.</summary>
/// <param name="Vpd">VPD's serial number.</param>
/// <param name="Dsn">The Device Serial Number.</param>
/// <param name="Place">Its slot, or its path below the host bridge: no two functions of a host have the same.</param>
internal sealed record Evidence(ReadSerial Vpd, ReadSerial Dsn, string Place);

/// <summary>What a device is known by besides its address.</summary>
/// <param name="VendorId">Vendor.</param>
/// <param name="ProductId">Product.</param>
/// <param name="StableId">See <see cref="PciFunction.StableId"/>; null: not known.</param>
/// <param name="Evidence">What was read of it; null for a device that was given.</param>
internal readonly record struct KnownDevice(PciId VendorId, PciId ProductId, string? StableId, Evidence? Evidence = null)
{
    public static KnownDevice Of(DeviceToTake device) => new(device.VendorId, device.ProductId, device.StableId);

    public static KnownDevice Of(HostFunction f) => new(f.Function.VendorId, f.Function.ProductId, f.Function.StableId, f.Evidence);
}

/// <summary>
/// Stable ids that two functions of this host were seen to have: makers that give all cards one serial number, cards that show
/// themselves in two slots, partitions beyond function 7. To these the place is added. Thread-safe.
/// </summary>
internal sealed class Twins
{
    private readonly Lock _gate = new();
    private readonly HashSet<string> _ids = new(StringComparer.Ordinal);

    /// <summary>All functions of the host, each with an id of its own.</summary>
    /// <param name="functions">As they were read.</param>
    /// <param name="held">The id under which the journal has a function that never left; null: none has it.</param>
    public List<HostFunction> Tell(IReadOnlyList<HostFunction> functions, Func<HostFunction, string?> held)
    {
        List<(HostFunction Function, string? Held)> all = [.. functions.Select(f => (f, held(f)))];
        var seen = new HashSet<string>(StringComparer.Ordinal);
        lock (_gate)
        {
            _ids.UnionWith(all.Select(f => f.Held ?? f.Function.Function.StableId).OfType<string>().Where(id => !seen.Add(id)));
        }

        return [.. all.Select(f => f.Held is { } id ? WithId(f.Function, id) : Tell(f.Function))];
    }

    /// <summary>One function, with its place added where another one of this host has the same id.</summary>
    public HostFunction Tell(HostFunction f)
    {
        bool twin;
        lock (_gate)
            twin = f.Function.StableId is { } id && _ids.Contains(id);
        return twin && f.Evidence is { } evidence && f.Function.StableId != evidence.Place
            ? WithId(f, $"{f.Function.StableId}@{evidence.Place}")
            : f;
    }

    private static HostFunction WithId(HostFunction f, string id) =>
        f.Function.StableId == id ? f : f with { Function = f.Function with { StableId = id } };
}
