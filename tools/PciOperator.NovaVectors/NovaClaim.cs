using System.Text.Json;
using PciOperator.Nova;

namespace PciOperator.NovaVectors;

/// <summary>
/// What Nova said to a claim in a sequence, and whether its own greedy way through its pools explains a refusal or an error.
/// </summary>
/// <param name="Explained">Whether it does.</param>
/// <param name="Touched">After an error in the middle: the devices that it had in hand and their relatives; null without, or
/// unexplained.</param>
internal sealed record NovaClaim(bool Explained, HashSet<string>? Touched)
{
    /// <param name="question">What the operation asks; null where it can't be read.</param>
    /// <param name="step">Nova's answer to it.</param>
    /// <param name="before">Nova's answer to the operation before; null: this is the first.</param>
    /// <param name="aliases">Nova's alias values.</param>
    /// <param name="parentOf">The PF of each VF that was ever there.</param>
    /// <param name="byNetDevice">Whether a spec names a netdev: one that is gone leaves its device's pool unfound.</param>
    /// <param name="sockets">The socket of each NUMA node.</param>
    public static NovaClaim? Of(
        Question? question,
        JsonElement step,
        JsonElement? before,
        IReadOnlyList<NovaAlias> aliases,
        IReadOnlyDictionary<string, string> parentOf,
        bool byNetDevice,
        IReadOnlyDictionary<int, int?> sockets
    )
    {
        var error = NovaError.Of(step, "error");
        bool refused =
            error is null && step.TryGetProperty("supported", out JsonElement supported) && supported.ValueKind == JsonValueKind.False;
        if (error is null && !refused)
            return null;
        // A refusal changes no pool; before a first claim that fails, pools are those of a tracker that has done nothing.
        JsonElement? pools = refused ? step.GetProperty("pools") : before?.GetProperty("pools");
        if (question is null)
            return null;
        if (pools is null)
        {
            // Nobody has anything yet: only a claim of a PF and a VF of one card can fail.
            return new NovaClaim(
                error is { Class: "PciDeviceRequestFailed" } && parentOf.Count > 0,
                [.. parentOf.Keys, .. parentOf.Values]
            );
        }

        IReadOnlyList<NovaGreedy> ways = NovaGreedy.Of(pools.Value, question, aliases, sockets);
        if (refused)
            return new NovaClaim(!ways.Any(w => w.Supported()), null);
        if (ways.Count == 0)
            return null;
        // It took the first place that its filter lets through.
        NovaGreedy greedy = ways.FirstOrDefault(w => w.Supported()) ?? ways[0];
        IReadOnlyList<string>? taken = greedy.Consumed(parentOf);
        if (error!.Class == "PciDeviceRequestFailed")
            return new NovaClaim(greedy.Supported() && taken is null, null);
        string[] hit;
        if (byNetDevice && error.Class == "PciDevicePoolEmpty")
        {
            // It stopped where it was to take a device, or a relative of one that it had taken, out of a pool.
            taken = greedy.Consumed(new Dictionary<string, string>());
            hit = [.. (taken ?? []).Where(d => Relatives(d).Any(r => error.Message.Contains(r, StringComparison.Ordinal)))];
        }
        else
        {
            hit =
            [
                .. (taken ?? []).Where(d =>
                    IsGone(d)
                    || taken!.Count(t => t == d || parentOf.GetValueOrDefault(t) == d || parentOf.GetValueOrDefault(d) == t) > 1
                    || Relatives(d).Any(IsTaken)
                ),
            ];
        }

        return new NovaClaim(hit.Length > 0, hit.Length > 0 ? [.. taken!, .. taken!.SelectMany(Relatives)] : null);

        IEnumerable<string> Relatives(string device) =>
            parentOf.TryGetValue(device, out string? pf)
                ? [device, pf, .. parentOf.Where(p => p.Value == pf).Select(p => p.Key)]
                : [device, .. parentOf.Where(p => p.Value == device).Select(p => p.Key)];

        // By Nova's own states before the claim; a pool may go on offering a device that is gone, or one device twice.
        bool IsGone(string device) => before is { } last && !last.GetProperty("states").TryGetProperty(device, out _);

        bool IsTaken(string device) =>
            before is { } last
            && last.GetProperty("states").TryGetProperty(device, out JsonElement state)
            && state[0].GetString() is not "available";
    }
}
