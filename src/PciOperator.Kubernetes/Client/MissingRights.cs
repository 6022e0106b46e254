using System.Diagnostics.CodeAnalysis;
using k8s;
using k8s.Models;
using Microsoft.Extensions.Logging;

namespace PciOperator.Kubernetes;

/// <summary>What a call has to be allowed, in RBAC's words.</summary>
/// <param name="Verb">As in a Role: <c>get</c>, <c>list</c>, <c>watch</c>, …</param>
/// <param name="Group">The API group; empty for the core's.</param>
/// <param name="Resource">With the subresource: <c>nodes/status</c>.</param>
/// <param name="Namespace">Where; null: in the whole cluster.</param>
internal readonly record struct ApiRight(string Verb, string Group, string Resource, string? Namespace)
{
    public static ApiRight Of<T>(string verb, string? ns, string? subresource = null)
        where T : class, IKubernetesObject<V1ObjectMeta> =>
        new(
            verb,
            EntityType<T>.Group,
            string.IsNullOrEmpty(subresource) ? EntityType<T>.Plural : $"{EntityType<T>.Plural}/{subresource}",
            string.IsNullOrEmpty(ns) ? null : ns
        );
}

/// <summary>
/// The rights that a program lacks, as the API server tells it: one that lacks some can work in part, and would else only be slow or silent.
/// Each is logged when it is missed first, and from time to time as long as it is; <see cref="WhyNotWell"/> is for <c>/readyz</c>.
/// </summary>
/// <remarks>
/// A right counts as missing until a call of its kind is allowed, or none was refused for some minutes. Events are left out: no work needs
/// them, and <see cref="EventRecorder"/> says which it could not write. So are calls without a model, whose callers see to refusals.
/// </remarks>
public sealed class MissingRights
{
    // More would tell nobody more; a namespace of its own makes each a right of its own.
    private const int Most = 64;
    private const int MostShown = 3;
    private const string Events = "events.k8s.io";
    private static readonly TimeSpan SaidAgainAfter = TimeSpan.FromMinutes(10);

    // Whatever is refused is tried again within a minute, if anybody still wants it.
    private static readonly TimeSpan MissingFor = TimeSpan.FromMinutes(3);
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly Lock _lock = new();
    private readonly Dictionary<ApiRight, Refusal> _refusals = [];

    // So that calls that are allowed, which nearly all are, take no lock.
    private volatile bool _any;

    internal MissingRights(TimeProvider time, ILogger log) => (_time, _log) = (time, log);

    /// <summary>What the API server says of the rights that are missing now, or null.</summary>
    public string? WhyNotWell()
    {
        if (!_any)
            return null;
        List<string> sentences;
        lock (_lock)
        {
            ForgetOld();
            sentences = [.. _refusals.Values.Select(r => r.Message).Order(StringComparer.Ordinal)];
        }

        if (sentences.Count == 0)
            return null;
        string more = sentences.Count > MostShown ? $"; and {sentences.Count - MostShown} more" : "";
        return $"a Role or ClusterRole lacks what this program needs: {string.Join("; ", sentences.Take(MostShown))}{more}";
    }

    internal void Refused(ApiRight? needed, ApiException error)
    {
        if (!IsMissing(needed, error, out ApiRight right))
            return;
        lock (_lock)
        {
            ForgetOld();
            long now = _time.GetTimestamp();
            bool isKnown = _refusals.TryGetValue(right, out Refusal? before);
            if (!isKnown && _refusals.Count >= Most)
                return;
            bool isSaid = isKnown && _time.GetElapsedTime(before!.SaidAt, now) < SaidAgainAfter;
            _refusals[right] = new Refusal(error.Message, now, isSaid ? before!.SaidAt : now);
            _any = true;
            if (isSaid)
                return;
        }

        _log.LogError("A Role or ClusterRole lacks what this program needs: {Message}", error.Message);
    }

    internal void Granted(ApiRight? needed)
    {
        if (!_any || needed is not { } right)
            return;
        lock (_lock)
        {
            if (_refusals.Remove(right))
                _log.LogInformation("What was refused is allowed now: {Verb} of {Resource}.", right.Verb, right.Resource);
            _any = _refusals.Count > 0;
        }
    }

    /// <summary>Under the lock.</summary>
    private void ForgetOld()
    {
        foreach (ApiRight old in _refusals.Where(r => _time.GetElapsedTime(r.Value.At) > MissingFor).Select(r => r.Key).ToList())
            _refusals.Remove(old);
        _any = _refusals.Count > 0;
    }

    /// <summary>Policies, quotas and namespaces that end refuse with 403, too; only the authorizer says what a user can't.</summary>
    private static bool IsMissing(ApiRight? needed, ApiException error, [NotNullWhen(true)] out ApiRight right)
    {
        right = needed.GetValueOrDefault();
        return needed is not null
            && error.IsForbidden
            && right.Group != Events
            && error.Message.Contains("is forbidden: User \"", StringComparison.Ordinal);
    }

    /// <param name="Message">What the server said last.</param>
    /// <param name="At">When.</param>
    /// <param name="SaidAt">When that was logged last.</param>
    private sealed record Refusal(string Message, long At, long SaidAt);
}
