using System.Text.Json;
using Microsoft.Extensions.Logging;
using PciOperator.Host;

namespace PciOperator.Kubelet;

/// <summary>
/// The checkpoints: one file for each ResourceClaim that is prepared, STATE/resource-claims/UID.json. It is on disk before anything is written
/// that a container runtime reads, and goes after all of that has gone. Thread-safe; who changes a claim holds its turn.
/// </summary>
internal sealed class PreparedClaims(IHostFileSystem files, HandoutFiles handout, string stateDirectory, ILogger log)
{
    private const int LargestFile = 4 << 20;
    private const string Suffix = ".json";
    private readonly string _folder = $"{stateDirectory.TrimEnd('/')}/resource-claims";
    private readonly string _quarantine = $"{stateDirectory.TrimEnd('/')}/resource-claims-quarantine";
    private readonly Lock _gate = new();
    private readonly Dictionary<string, PreparedClaim> _claims = new(StringComparer.Ordinal);

    /// <summary>All that are prepared.</summary>
    public IReadOnlyList<PreparedClaim> All
    {
        get
        {
            lock (_gate)
                return [.. _claims.Values];
        }
    }

    /// <summary>One of them; null: it isn't prepared.</summary>
    public PreparedClaim? Find(string uid)
    {
        lock (_gate)
            return _claims.GetValueOrDefault(uid);
    }

    /// <summary>
    /// Reads the checkpoints and makes the files agree with them: what belongs to none is removed, what is missing is written again, and
    /// what an earlier boot left goes, since the kernel has numbered the groups anew. The kubelet asks again then.
    /// </summary>
    /// <exception cref="JournalException">A checkpoint is of a newer format: this agent must not act.</exception>
    /// <exception cref="HostIoException">The host can't be read or written.</exception>
    public void Recover()
    {
        string boot = HostFacts.BootId(files);
        var found = new List<PreparedClaim>();
        foreach (string name in files.List(_folder))
        {
            if (!StateFolder.IsLeftOver(files, _folder, name) && name.EndsWith(Suffix, StringComparison.Ordinal) && Load(name) is { } claim)
                found.Add(claim);
        }

        var current = found.Where(c => c.BootId == boot).ToList();
        foreach (string stray in handout.DeleteStrays(current))
            log.LogInformation("{Path} belonged to no prepared ResourceClaim of this boot, and is removed", stray);
        foreach (PreparedClaim stale in found.Where(c => c.BootId != boot))
            files.Delete(PathOf(stale.Uid));
        foreach (PreparedClaim claim in current)
            handout.Write(claim);
        lock (_gate)
        {
            _claims.Clear();
            foreach (PreparedClaim claim in current)
                _claims[claim.Uid] = claim;
        }
    }

    /// <summary>Hands a claim's devices out: all of it is on disk when it returns.</summary>
    /// <exception cref="HostIoException">It can't be written; what was written goes with the claim.</exception>
    public void Save(PreparedClaim claim)
    {
        if (!claim.Equals(Find(claim.Uid)))
        {
            files.WriteDurably(PathOf(claim.Uid), JsonSerializer.SerializeToUtf8Bytes(claim, PreparedClaimJson.Default.PreparedClaim));
            lock (_gate)
                _claims[claim.Uid] = claim;
        }

        handout.Write(claim);
    }

    /// <summary>Takes back what was handed out: nothing of it is on disk when it returns.</summary>
    /// <exception cref="HostIoException">It can't be removed; the checkpoint is still there then.</exception>
    public void Remove(PreparedClaim claim)
    {
        bool isReplaced = All.Any(c => c.Uid != claim.Uid && (c.Namespace, c.Name) == (claim.Namespace, claim.Name));
        handout.Delete(claim, isReplaced);
        files.Delete(PathOf(claim.Uid));
        lock (_gate)
            _claims.Remove(claim.Uid);
    }

    private string PathOf(string uid) => $"{_folder}/{uid}{Suffix}";

    /// <summary>A checkpoint; null: it can't be understood, and lies aside, where it hands nothing out.</summary>
    private PreparedClaim? Load(string name)
    {
        string path = $"{_folder}/{name}";
        byte[]? content = StateFolder.TryRead(files, path, LargestFile, out bool failed);
        if (content is not null && Parse(path, content) is { } claim && claim.Uid + Suffix == name)
            return claim;
        if (content is not null || failed)
        {
            string aside = StateFolder.PutAside(files, path, $"{_quarantine}/{name}", content);
            log.LogWarning(
                "{Path} can't be understood: what was handed out by it is taken back, and the kubelet asks again ({Aside})",
                path,
                aside
            );
        }

        return null;
    }

    private static PreparedClaim? Parse(string path, byte[] content)
    {
        try
        {
            int version = JsonSerializer.Deserialize(content, PreparedClaimJson.Default.PreparedClaimVersion)?.FormatVersion ?? 0;
            if (version > PreparedClaim.CurrentFormat)
            {
                throw new JournalException(
                    $"The checkpoint {path} has format {version}, and this agent knows {PreparedClaim.CurrentFormat}: it was written by a newer agent. Run that one, or end the pods that use the ResourceClaim with it first."
                );
            }

            PreparedClaim? claim = version < 1 ? null : JsonSerializer.Deserialize(content, PreparedClaimJson.Default.PreparedClaim);
            return
                claim is not null
                && ClaimNames.AreSafe(claim.Reference)
                && claim.Devices.All(d => ClaimNames.IsLabel(d.Request) && ClaimNames.IsLabel(d.Device))
                ? claim
                : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
