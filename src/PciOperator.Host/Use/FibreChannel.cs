using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Fibre Channel ports by their names: what hangs on an HBA by such a name is in no path of sysfs that goes through it (NVMe over FC
/// controllers are virtual devices with a host_traddr, targets are folders of configfs).
/// </summary>
internal sealed class FibreChannel
{
    private readonly Dictionary<string, List<PciAddress>> _byPort = new(StringComparer.Ordinal);

    private FibreChannel() { }

    /// <summary>Reads the ports (Documentation/ABI/testing/sysfs-class-fc_host).</summary>
    public static FibreChannel Read(IHostFileSystem files)
    {
        var ports = new FibreChannel();
        foreach (string host in files.List("/sys/class/fc_host"))
        {
            List<PciAddress> functions = SysfsPaths.FunctionsOn(files.ReadLink($"/sys/class/fc_host/{host}") ?? "");
            if (functions.Count > 0 && files.ReadText($"/sys/class/fc_host/{host}/port_name") is { } name)
                ports._byPort[Digits(name)] = functions;
        }

        return ports;
    }

    /// <summary>
    /// The functions of a port by its name in any spelling ("0x2100…", "21:00:…", "nn-0x20…:pn-0x21…"); empty when it is none of this
    /// host's.
    /// </summary>
    public IReadOnlyList<PciAddress> Of(string name) =>
        _byPort.GetValueOrDefault(Digits(name.IndexOf("pn-", StringComparison.Ordinal) is >= 0 and var at ? name[(at + 3)..] : name)) ?? [];

    /// <summary>
    /// The functions that each NVMe over FC controller hangs on, by its name ("nvme1"); where the name says nothing, all that it can be.
    /// </summary>
    public Dictionary<string, List<PciAddress>> Controllers(IHostFileSystem files)
    {
        var found = new Dictionary<string, List<PciAddress>>(StringComparer.Ordinal);
        if (_byPort.Count == 0)
            return found;
        foreach (string name in files.List("/sys/class/nvme"))
        {
            if (files.ReadText($"/sys/class/nvme/{name}/transport") != "fc")
                continue;

            // "traddr=nn-0x…:pn-0x…,host_traddr=nn-0x…:pn-0x…" (nvmf_get_address).
            string? port = files
                .ReadText($"/sys/class/nvme/{name}/address")
                ?.Split(',')
                .Select(p => p.Trim())
                .FirstOrDefault(p => p.StartsWith("host_traddr=", StringComparison.Ordinal));
            IReadOnlyList<PciAddress> functions = port is null ? [] : Of(port);
            found[name] = [.. functions.Count > 0 ? functions : _byPort.Values.SelectMany(f => f).Distinct()];
        }

        return found;
    }

    private static string Digits(string name)
    {
        string text = name.Trim();
        if (text.StartsWith("0x", StringComparison.OrdinalIgnoreCase))
            text = text[2..];
        return text.Replace(":", "", StringComparison.Ordinal).ToLowerInvariant();
    }
}
