using PciOperator.Api;
using PciOperator.Core;

namespace PciOperator.Cli.Cluster;

/// <summary>The name by which a VM or pod asks for one of a claim's devices.</summary>
/// <param name="Name">The name.</param>
/// <param name="Address">The device's address; null: the claim has none yet.</param>
/// <param name="IsCompanion">It goes along because of its IOMMU group, whether a VM names it or not.</param>
internal readonly record struct RequestName(string Name, string? Address, bool IsCompanion)
{
    /// <summary>A claim's names; of one without devices those of its requests, since what comes along with them is not known yet.</summary>
    public static IReadOnlyList<RequestName> Of(PassthroughClaim claim)
    {
        if (claim.Status?.Devices is not { Count: > 0 } held)
        {
            return
            [
                .. claim.Spec.Requests.SelectMany(r =>
                    Enumerable.Range(0, r.Count).Select(i => new RequestName(DraNames.Device(r.Name, i, r.Count), null, false))
                ),
            ];
        }

        IReadOnlyDictionary<PciAddress, string> names = DraNames.Of([
            .. held.Select(d => new AssignedDevice
            {
                Address = d.Address,
                Request = d.Request,
                Companion = d.Companion,
                IommuGroup = d.IommuGroup,
            }),
        ]);
        var along = held.Where(d => d.Companion == true || string.IsNullOrEmpty(d.Request))
            .Select(d => PciAddress.Parse(d.Address))
            .ToHashSet();
        return
        [
            .. names
                .OrderBy(n => n.Value, StringComparer.Ordinal)
                .Select(n => new RequestName(n.Value, n.Key.ToString(), along.Contains(n.Key))),
        ];
    }
}
