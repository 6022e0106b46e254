namespace PciOperator.Host;

/// <summary>
/// What a PF keeps for one of its VFs, as `ip link show` and `ip link set PF vf N …` name it (struct ifla_vf_*, linux/if_link.h).
/// </summary>
/// <param name="Mac">"52:54:00:12:34:56"; "00:00:00:00:00:00": none, the VF chooses its own.</param>
/// <param name="Vlan">0: none, to 4095.</param>
/// <param name="VlanQos">0 to 7.</param>
/// <param name="VlanProtocol">"802.1Q" or "802.1ad".</param>
/// <param name="Trust">Whether the VF may be promiscuous and change its MAC; null: the PF's driver has no such setting.</param>
/// <param name="SpoofCheck">Whether frames from other addresses are dropped; null: the PF's driver has no such setting.</param>
/// <param name="MinTxRate">Mbit/s; 0: none.</param>
/// <param name="MaxTxRate">Mbit/s; 0: no limit.</param>
/// <param name="LinkState">0: as the PF's, 1: always up, 2: always down.</param>
public sealed record VfSettings(
    string Mac,
    int Vlan,
    int VlanQos,
    string VlanProtocol,
    bool? Trust,
    bool? SpoofCheck,
    int MinTxRate,
    int MaxTxRate,
    int LinkState
)
{
    /// <summary>The MAC of a VF that was given none.</summary>
    public const string NoMac = "00:00:00:00:00:00";

    /// <summary>What a VF has that nobody set anything of.</summary>
    public static VfSettings Default { get; } = new(NoMac, 0, 0, "802.1Q", false, true, 0, 0, 0);

    /// <summary>What differs from the wished ones, as "vlan is 7 instead of 0"; settings that the wish leaves open don't.</summary>
    public IEnumerable<string> DifferencesFrom(VfSettings wanted)
    {
        if (!string.Equals(Mac, wanted.Mac, StringComparison.OrdinalIgnoreCase))
            yield return $"mac is {Mac} instead of {wanted.Mac}";
        if ((Vlan, VlanQos, VlanProtocol) != (wanted.Vlan, wanted.VlanQos, wanted.VlanProtocol))
            yield return $"vlan is {VlanText()} instead of {wanted.VlanText()}";
        if ((MinTxRate, MaxTxRate) != (wanted.MinTxRate, wanted.MaxTxRate))
            yield return $"tx rate is {MinTxRate} to {MaxTxRate} Mbit/s instead of {wanted.MinTxRate} to {wanted.MaxTxRate}";
        if (wanted.SpoofCheck is { } spoof && SpoofCheck != spoof)
            yield return $"spoof check is {Word(SpoofCheck)} instead of {Word(spoof)}";
        if (LinkState != wanted.LinkState)
            yield return $"link state is {State(LinkState)} instead of {State(wanted.LinkState)}";
        if (wanted.Trust is { } trust && Trust != trust)
            yield return $"trust is {Word(Trust)} instead of {Word(trust)}";
    }

    private string VlanText() =>
        $"{Vlan}{(VlanQos > 0 ? $" qos {VlanQos}" : "")}{(Vlan > 0 && VlanProtocol != Default.VlanProtocol ? $" proto {VlanProtocol}" : "")}";

    private static string Word(bool? on) =>
        on switch
        {
            true => "on",
            false => "off",
            null => "unknown",
        };

    private static string State(int state) =>
        state switch
        {
            0 => "auto",
            1 => "enable",
            2 => "disable",
            _ => $"{state}",
        };
}
