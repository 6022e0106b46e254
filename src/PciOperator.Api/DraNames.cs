using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using PciOperator.Core;

namespace PciOperator.Api;

/// <summary>The names under which a claim's devices go through dynamic resource allocation (resource.k8s.io): what the controller offers, VMs ask for and the kubelet hands out.</summary>
public static class DraNames
{
    /// <summary>The driver's name, the DeviceClass', and the domain of its attributes.</summary>
    public const string Driver = PciOperatorApi.Group;

    /// <summary>The attribute with the claim's UID: a ResourceClaim selects by it and by <see cref="RequestAttribute"/>.</summary>
    public const string ClaimUidAttribute = "claimUID";

    /// <summary>The attribute with the name of the request that the device serves.</summary>
    public const string RequestAttribute = "request";

    /// <summary>The standard attribute with the device's address (KEP-4381's `deviceattribute` names).</summary>
    public const string PciBusIdAttribute = "resource.kubernetes.io/pciBusID";

    /// <summary>The binding condition that kube-scheduler waits for (KEP-5007).</summary>
    public const string Bound = Driver + "/Bound";

    /// <summary>The binding condition that makes kube-scheduler try another node.</summary>
    public const string Refused = Driver + "/Refused";

    private const string PoolPrefix = "claim-";

    /// <summary>The longest name of a request and of a device: a DNS label.</summary>
    private const int Longest = 63;

    /// <summary>The pool that a claim's devices are offered in; one ResourceSlice.</summary>
    /// <param name="claimUid">The PassthroughClaim's UID.</param>
    public static string Pool(string claimUid) => PoolPrefix + claimUid;

    /// <summary>The UID of the PassthroughClaim whose pool it is; null: it is no claim's.</summary>
    public static string? ClaimOfPool(string? pool) =>
        pool?.StartsWith(PoolPrefix, StringComparison.Ordinal) == true ? pool[PoolPrefix.Length..] : null;

    /// <summary>
    /// The name of one of a request's devices, which is the DRA request's and the offered device's: <c>gpu</c> when the request is for one,
    /// <c>gpu-0</c>, <c>gpu-1</c>, … otherwise.
    /// </summary>
    public static string Device(string request, int index, int count) => count == 1 ? Fit(request, "") : Fit(request, Number("-", index));

    /// <summary>The name of a companion: a function that goes along with a device because of its IOMMU group.</summary>
    /// <param name="device">The device's name, by <see cref="Device"/>.</param>
    /// <param name="index">Which one, from 0, in the order of their addresses.</param>
    public static string Companion(string device, int index) => Fit(device, Number("-companion-", index));

    /// <summary>
    /// The name of each device of an assignment. Devices of a request are numbered in the order of their addresses; a companion goes by the
    /// first device of its IOMMU group that was asked for.
    /// </summary>
    public static IReadOnlyDictionary<PciAddress, string> Of(IReadOnlyList<AssignedDevice> devices)
    {
        var names = new Dictionary<PciAddress, string>();
        var ordered = devices.Select(d => (Address: PciAddress.Parse(d.Address), Device: d)).OrderBy(d => d.Address).ToList();
        foreach (
            IGrouping<string, (PciAddress Address, AssignedDevice Device)> request in ordered
                .Where(d => IsAsked(d.Device))
                .GroupBy(d => d.Device.Request!)
        )
        {
            var served = request.ToList();
            for (int i = 0; i < served.Count; i++)
                names[served[i].Address] = Device(request.Key, i, served.Count);
        }

        foreach (
            IGrouping<int?, (PciAddress Address, AssignedDevice Device)> along in ordered
                .Where(d => !IsAsked(d.Device))
                .GroupBy(d => d.Device.IommuGroup)
        )
        {
            // Whatever it goes along with is in its group; without one (an assignment made by hand) it goes by the first device of all.
            (PciAddress lead, _) = ordered
                .Where(d => IsAsked(d.Device))
                .OrderByDescending(d => along.Key is not null && d.Device.IommuGroup == along.Key)
                .FirstOrDefault();
            int index = 0;
            foreach ((PciAddress address, _) in along)
                names[address] = Companion(names.GetValueOrDefault(lead, "device"), index++);
        }

        return names;

        static bool IsAsked(AssignedDevice device) => device is { Companion: not true, Request.Length: > 0 };
    }

    private static string Number(string before, int index) => before + index.ToString(CultureInfo.InvariantCulture);

    /// <summary>A name with an ending; one that is too long is cut and told apart by a hash of the whole.</summary>
    private static string Fit(string name, string ending)
    {
        if (name.Length + ending.Length <= Longest)
            return name + ending;
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(name)))[..8];
        return name[..(Longest - ending.Length - hash.Length - 1)].TrimEnd('-') + "-" + hash + ending;
    }
}
