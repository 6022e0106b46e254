using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// A device that a person gives away although a guard refuses it. It counts while the device at the address is the one that
/// was meant: all that is given must agree with what the host shows then, and at least one must be given.
/// </summary>
/// <param name="Address">Where it is.</param>
/// <param name="Ids">"8086:10c9".</param>
/// <param name="Serial">The serial number of its VPD, or of its Device Serial Number capability ("a0-36-9f-ff-ff-12-34-56").</param>
public sealed record GuardOverride(PciAddress Address, string? Ids, string? Serial)
{
    internal bool Names(PciFunction f)
    {
        if (f.Address != Address || (Ids is null && Serial is null))
            return false;
        return (Ids is null || Ids.Equals($"{f.VendorId}:{f.ProductId}", StringComparison.OrdinalIgnoreCase))
            && (
                Serial is null
                || Serial.Equals(f.CardSerial, StringComparison.OrdinalIgnoreCase)
                || (
                    DeviceIdentity.IsSerial(f.StableId)
                    && DeviceIdentity
                        .WithoutPlace(f.StableId!)
                        .Equals($"{DeviceIdentity.DsnPrefix}{Serial}.{f.Address.Function}", StringComparison.OrdinalIgnoreCase)
                )
            );
    }
}
