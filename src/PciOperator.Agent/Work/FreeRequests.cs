using System.Text.Json;
using System.Text.Json.Serialization;
using k8s.Models;
using Microsoft.Extensions.Logging;
using PciOperator.Api;
using PciOperator.Core;
using PciOperator.Host;

namespace PciOperator.Agent;

/// <summary>
/// Frees devices of one-time use that an administrator names in the PciNode's annotation <c>pcioperator.io/free</c>. Each name
/// is answered once, also over restarts of the agent: a device that is used once more while its name still stands there stays
/// withheld until the name has gone and is written again.
/// </summary>
internal sealed class FreeRequests(PassthroughHost host, IHostFileSystem files, string stateDirectory, ILogger? log = null)
{
    private readonly string _path = stateDirectory.TrimEnd('/') + "/free-requests.json";
    private readonly HashSet<string> _said = [];
    private HashSet<string>? _answered;

    /// <summary>Frees what is newly named and withheld.</summary>
    /// <returns>Each newly named device, and whether it was freed; false: there was nothing to free, or a claim holds it.</returns>
    public IReadOnlyList<(PciAddress Address, bool Freed)> Answer(PciNode node)
    {
        try
        {
            _answered ??= Read();
        }
        catch (HostIoException e)
        {
            // Which names were answered isn't known: nothing is freed before it is.
            if (_said.Add(e.Message))
                log?.LogWarning("Nothing can be freed now: {Message}", e.Message);
            return [];
        }

        IReadOnlyList<PciAddress> named = PciOperatorApi.FreedBy(node.GetAnnotation(PciOperatorApi.FreeAnnotation));
        if (named.Count == 0 && _answered.Count == 0)
            return [];

        var held = host.Holdings.SelectMany(h => h.Request.Devices).Select(d => d.Address).ToHashSet();
        var answers = new List<(PciAddress, bool)>();
        var failed = new HashSet<string>();
        foreach (PciAddress address in named.Where(a => !_answered.Contains(a.ToString())))
        {
            try
            {
                answers.Add((address, !held.Contains(address) && host.ClearUsedOnce(address)));
            }
            catch (HostIoException e)
            {
                // Answered when it can be.
                failed.Add(address.ToString());
                if (_said.Add(e.Message))
                    log?.LogWarning("{Address} can't be freed now: {Message}", address, e.Message);
            }
        }

        // Written after the deed: whoever comes back from a kill finds nothing left to free.
        var answered = named.Select(a => a.ToString()).Except(failed).ToHashSet();
        if (!answered.SetEquals(_answered))
        {
            _answered = answered;
            Write(answered);
        }

        return answers;
    }

    private void Write(HashSet<string> answered)
    {
        try
        {
            files.WriteDurably(
                _path,
                JsonSerializer.SerializeToUtf8Bytes(answered.Order(StringComparer.Ordinal).ToArray(), FreeRequestsJson.Default.StringArray)
            );
        }
        catch (HostIoException e)
        {
            log?.LogWarning("What was freed may be freed once more when the agent restarts: {Message}", e.Message);
        }
    }

    private HashSet<string> Read()
    {
        try
        {
            return files.ReadText(_path) is { } text
                ? [.. JsonSerializer.Deserialize(text, FreeRequestsJson.Default.StringArray) ?? []]
                : [];
        }
        catch (JsonException)
        {
            return [];
        }
    }
}

[JsonSerializable(typeof(string[]))]
internal sealed partial class FreeRequestsJson : JsonSerializerContext;
