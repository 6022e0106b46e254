using System.Text.Json;
using System.Text.Json.Serialization;
using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>
/// What a kubelet was told when it allocated a claim's devices: it goes on using that for new containers, also after a boot, without asking
/// again. Before each start what it was told is compared with what is so.
/// </summary>
internal sealed record Allocation
{
    public const int CurrentFormat = 1;

    public required int FormatVersion { get; init; }

    /// <summary>The claim that has the devices.</summary>
    public required string ClaimUid { get; init; }

    /// <summary>For each device that was allocated, by the name that it is offered as, the nodes that a container was given for it.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<string>> Nodes { get; init; }
}

/// <summary>The allocations, one file for each claim: STATE/allocations/UID.json. Thread-safe, but for two changes of one claim at once.</summary>
internal sealed class Allocations(IHostFileSystem files, string stateDirectory)
{
    private const int LargestFile = 1 << 20;
    private const string Suffix = ".json";
    private readonly string _folder = $"{stateDirectory.TrimEnd('/')}/allocations";

    /// <summary>The UIDs of the claims that have one.</summary>
    /// <exception cref="HostIoException">They can't be read.</exception>
    public IReadOnlyList<string> Claims =>
        [
            .. files
                .List(_folder)
                .Where(name => !StateFolder.IsLeftOver(files, _folder, name) && name.EndsWith(Suffix, StringComparison.Ordinal))
                .Select(name => name[..^Suffix.Length]),
        ];

    /// <summary>A claim's; null: there is none that can be understood, and nothing is started by it.</summary>
    /// <exception cref="HostIoException">It can't be read.</exception>
    public Allocation? Find(string claimUid)
    {
        if (!Journal.IsUid(claimUid) || StateFolder.TryRead(files, PathOf(claimUid), LargestFile, out _) is not { } content)
            return null;
        try
        {
            return
                JsonSerializer.Deserialize(content, AllocationJson.Default.Allocation)
                    is { FormatVersion: Allocation.CurrentFormat } allocation
                ? allocation
                : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }

    /// <summary>Adds what is allocated now; on disk when it returns.</summary>
    /// <exception cref="HostIoException">It can't be written.</exception>
    public void Add(string claimUid, IReadOnlyDictionary<string, IReadOnlyList<string>> nodes)
    {
        var all = new Dictionary<string, IReadOnlyList<string>>(Find(claimUid)?.Nodes ?? new Dictionary<string, IReadOnlyList<string>>());
        foreach ((string device, IReadOnlyList<string> its) in nodes)
            all[device] = its;
        var allocation = new Allocation
        {
            FormatVersion = Allocation.CurrentFormat,
            ClaimUid = claimUid,
            Nodes = all,
        };
        files.WriteDurably(PathOf(claimUid), JsonSerializer.SerializeToUtf8Bytes(allocation, AllocationJson.Default.Allocation));
    }

    /// <summary>Nothing is allocated of the claim any more.</summary>
    /// <exception cref="HostIoException">It can't be removed.</exception>
    public void Remove(string claimUid)
    {
        if (Journal.IsUid(claimUid))
            files.Delete(PathOf(claimUid));
    }

    private string PathOf(string claimUid) => $"{_folder}/{claimUid}{Suffix}";
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    RespectNullableAnnotations = true
)]
[JsonSerializable(typeof(Allocation))]
internal sealed partial class AllocationJson : JsonSerializerContext;
