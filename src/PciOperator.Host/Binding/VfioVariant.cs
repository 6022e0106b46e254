using System.IO.Enumeration;
using System.Text;
using PciOperator.Core;

namespace PciOperator.Host;

/// <summary>
/// Finds the kernel's vfio driver for a device: modules.alias lists variants as "alias vfio_pci:v000015B3d… mlx5_vfio_pci".
/// </summary>
internal static class VfioVariant
{
    private const int LargestModuleList = 32 << 20;

    /// <summary>The most particular variant's module; vfio-pci when none knows the device.</summary>
    public static string For(IHostFileSystem files, PciAddress address)
    {
        string? modalias = files.ReadText($"{SysfsPaths.Device(address)}/modalias");
        string kernel = HostFacts.KernelVersion(files);
        byte[]? aliases =
            files.ReadBytes($"/lib/modules/{kernel}/modules.alias", LargestModuleList)
            ?? files.ReadBytes($"/proc/1/root/lib/modules/{kernel}/modules.alias", LargestModuleList);
        return modalias is null || aliases is null ? VfioDrivers.VfioPci : Best(aliases, modalias) ?? VfioDrivers.VfioPci;
    }

    /// <summary>Fewest wildcards win; vfio_pci's own catch-all doesn't count.</summary>
    internal static string? Best(ReadOnlySpan<byte> aliases, string modalias)
    {
        string wanted = "vfio_pci:" + modalias[(modalias.IndexOf(':', StringComparison.Ordinal) + 1)..];
        (string? module, int wildcards) = (null, int.MaxValue);
        foreach (Range range in aliases.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = aliases[range];
            if (!line.StartsWith("alias vfio_pci:"u8))
                continue;
            string[] columns = Encoding.ASCII.GetString(line).Split(' ');
            if (
                columns is not [_, var pattern, var name]
                || name is "vfio_pci" or "vfio-pci"
                || !FileSystemName.MatchesSimpleExpression(pattern, wanted, ignoreCase: false)
            )
            {
                continue;
            }

            int stars = pattern.Count(c => c is '*' or '?');
            if (stars < wildcards)
                (module, wildcards) = (name, stars);
        }

        return module;
    }
}
