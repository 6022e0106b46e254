namespace PciOperator.Host;

/// <summary>
/// What a PF's driver has counted of a VF since the VF was made or reset (linux/if_link.h, IFLA_VF_STATS). Received is what came to the VF,
/// which is what its guest received; sent is what the guest sent.
/// </summary>
public readonly record struct VfTraffic(
    ulong ReceivedPackets,
    ulong SentPackets,
    ulong ReceivedBytes,
    ulong SentBytes,
    ulong ReceivedDropped,
    ulong SentDropped
)
{
    /// <summary>
    /// Nothing at all. A driver that counts nothing is shown so, too: the kernel fills in zeros (rtnl_fill_vfinfo, net/core/rtnetlink.c).
    /// </summary>
    public bool IsNothing => this == default;
}

/// <summary>A VF, and what its PF's driver has counted of it.</summary>
/// <param name="Pf">The PF's address.</param>
/// <param name="Number">N of virtfnN.</param>
/// <param name="Address">The VF's address.</param>
/// <param name="Traffic">What was counted.</param>
public readonly record struct VfCounters(Core.PciAddress Pf, int Number, Core.PciAddress Address, VfTraffic Traffic);
