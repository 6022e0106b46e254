using System.Collections.Frozen;
using PciOperator.Core;

namespace PciOperator.Import;

/// <summary>
/// The product id of the VFs of a PF, for the NICs that the SR-IOV operator's list of supported ones has (its ConfigMap supported-nic-ids).
/// </summary>
internal static class VfIds
{
    // vendor: PFs>VFs, …
    private static readonly FrozenDictionary<(PciId Vendor, PciId Pf), PciId> Known = Parse(
        "8086: 158a 158b 1572 1589 1581 15ff 0d58 1583 > 154c, 1563 > 1565, 10c9 > 10ca, 1592 1593 159b 1599 1591 188a 124d 124c 579c 579d 579e 12d2 12d3 1249 124a > 1889, 10fb 154d > 10ed, 1521 > 1520",
        "15b3: 1013 > 1014, 1015 > 1016, 1017 > 1018, 1019 > 101a, 101b > 101c, 101d 101f 1021 1023 1025 a2d6 a2dc > 101e",
        "14e4: 16d7 > 16dc, 1750 > 1806",
        "1077: 1654 > 1664",
        "1af4: 1000 > 1000, 1041 > 1041",
        "177d: b200 > b203, b100 > b103, b600 > b603, b900 > b903, ba00 > ba03",
        "1d0f: ec20 > ec20"
    );

    /// <summary>The VFs' product id; null: not known.</summary>
    public static PciId? Of(PciId vendor, PciId pf) => Known.TryGetValue((vendor, pf), out PciId vf) ? vf : null;

    private static FrozenDictionary<(PciId, PciId), PciId> Parse(params ReadOnlySpan<string> vendors)
    {
        var known = new Dictionary<(PciId, PciId), PciId>();
        foreach (string vendor in vendors)
        {
            string[] parts = vendor.Split(": ");
            foreach (string family in parts[1].Split(", "))
            {
                string[] sides = family.Split(" > ");
                foreach (string pf in sides[0].Split(' '))
                    known[(PciId.Parse(parts[0]), PciId.Parse(pf))] = PciId.Parse(sides[1]);
            }
        }

        return known.ToFrozenDictionary();
    }
}
