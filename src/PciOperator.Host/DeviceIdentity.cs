using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Whether what is at an address is the device that was given away. An address names a place; a card is known by its serial
/// number, else by its physical slot, else by where it sits below the host bridge.
/// </summary>
internal static class DeviceIdentity
{
    /// <summary>How a function differs from the device that was given, as a sentence; null when it is that device.</summary>
    /// <param name="at">The address of both.</param>
    /// <param name="given">The device that was given.</param>
    /// <param name="now">The function that is there now.</param>
    /// <param name="stillOurs">The kernel still has what was done to the device (a driver_override, a VFIO driver): it never left, and
    /// a serial number that can't be read (its guest resets it, say) is no sign of another card.</param>
    public static string? Difference(PciAddress at, KnownDevice given, KnownDevice now, bool stillOurs)
    {
        if (now.VendorId != given.VendorId || now.ProductId != given.ProductId)
            return $"{at} is {now.VendorId}:{now.ProductId} now and was {given.VendorId}:{given.ProductId} when it was given: cards were moved or changed.";
        if (given.StableId is not { } was || now.StableId == was)
            return null;

        // A slot gets its name when the hot-plug driver is loaded: a path instead of a slot, at the same address, says nothing.
        bool comparable = now.StableId is not null && Kind(was) == Kind(now.StableId);
        bool readable = comparable || Inventory.IsSerial(was) || Inventory.IsSerial(now.StableId);
        return comparable || (readable && !stillOurs)
            ? $"{at} is another {now.VendorId}:{now.ProductId} now ({now.StableId}) than the one that was given ({was})."
            : null;
    }

    /// <summary>Where a card that is known by its serial number is now, as a sentence to follow another; empty when it isn't seen.</summary>
    public static string Elsewhere(PciAddress at, KnownDevice given, IEnumerable<HostFunction> seen) =>
        Inventory.IsSerial(given.StableId)
        && seen.FirstOrDefault(f => f.Address != at && f.Function.StableId == given.StableId
            && f.Function.VendorId == given.VendorId && f.Function.ProductId == given.ProductId) is { } moved
            ? $" The card that was given ({given.StableId}) is at {moved.Address} now."
            : "";

    private static string Kind(string stableId) => stableId[..(stableId.IndexOf(':', StringComparison.Ordinal) + 1)];
}

/// <summary>What a device is known by besides its address.</summary>
/// <param name="VendorId">Vendor.</param>
/// <param name="ProductId">Product.</param>
/// <param name="StableId">See <see cref="PciFunction.StableId"/>; null: not known.</param>
internal readonly record struct KnownDevice(PciId VendorId, PciId ProductId, string? StableId)
{
    public static KnownDevice Of(AssignmentDevice device) => new(device.VendorId, device.ProductId, device.StableId);

    public static KnownDevice Of(JournalDevice device) => new(PciId.Parse(device.VendorId), PciId.Parse(device.ProductId), device.StableId);

    public static KnownDevice Of(PciFunction function) => new(function.VendorId, function.ProductId, function.StableId);
}
