using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.Extensions.Logging;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>
/// The network interface that each function had when it last had one. A NIC loses its interface when it is bound to
/// VFIO; without this a spec that names the interface would stop matching it then (as Nova's does).
/// </summary>
internal sealed class NetDeviceNames(IHostFileSystem files, string stateDirectory, ILogger? log = null)
{
    private readonly string _path = stateDirectory.TrimEnd('/') + "/net-device-names.json";
    private Dictionary<string, NetDeviceName>? _known;

    /// <summary>The snapshot with remembered names where an interface is not to be seen and its name is not in use elsewhere.</summary>
    public HostSnapshot Restore(HostSnapshot snapshot)
    {
        _known ??= Read();
        bool changed = false;
        var inUse = new HashSet<string>(StringComparer.Ordinal);
        foreach (PciFunction? function in snapshot.Functions.Select(f => f.Function))
        {
            if (function.NetDevice is not { } name)
                continue;
            inUse.Add(name);
            var seen = new NetDeviceName(name, function.StableId ?? "", $"{function.VendorId}:{function.ProductId}");
            if (!_known.TryGetValue(function.Address.ToString(), out NetDeviceName? old) || old != seen)
            {
                _known[function.Address.ToString()] = seen;
                changed = true;
            }
        }

        if (changed)
            Write();

        return snapshot with
        {
            Functions =
            [
                .. snapshot.Functions.Select(f =>
                    f.Function.NetDevice is null
                    && _known.TryGetValue(f.Function.Address.ToString(), out NetDeviceName? name)
                    && name.StableId == (f.Function.StableId ?? "")
                    && name.Ids == $"{f.Function.VendorId}:{f.Function.ProductId}"
                    && !inUse.Contains(name.Name)
                        ? f with
                        {
                            Function = f.Function with { NetDevice = name.Name },
                        }
                        : f
                ),
            ],
        };
    }

    /// <summary>They are known all the same, to this agent.</summary>
    private void Write()
    {
        try
        {
            files.WriteDurably(
                _path,
                JsonSerializer.SerializeToUtf8Bytes(_known!, NetDeviceNamesJson.Default.DictionaryStringNetDeviceName)
            );
        }
        catch (HostIoException e)
        {
            log?.LogWarning("The names of network interfaces are forgotten when the agent restarts: {Message}", e.Message);
        }
    }

    private Dictionary<string, NetDeviceName> Read()
    {
        try
        {
            return files.ReadText(_path) is { } text
                ? JsonSerializer.Deserialize(text, NetDeviceNamesJson.Default.DictionaryStringNetDeviceName) ?? []
                : [];
        }
        catch (Exception e) when (e is JsonException or HostIoException)
        {
            // Names come back with the interfaces; a torn file only costs those that are on VFIO now.
            return [];
        }
    }
}

/// <summary>A name, and the device that had it.</summary>
internal sealed record NetDeviceName(string Name, string StableId, string Ids);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(Dictionary<string, NetDeviceName>))]
internal sealed partial class NetDeviceNamesJson : JsonSerializerContext;
