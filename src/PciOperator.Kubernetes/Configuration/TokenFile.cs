using System.Net.Http.Headers;
using k8s.Authentication;

namespace PciOperator.Kubernetes;

/// <summary>Credentials that can change while the program runs, and that are told when the server refuses them.</summary>
public interface IRenewedTokenProvider : ITokenProvider
{
    /// <summary>
    /// The server answered 401 to what <see cref="ITokenProvider.GetAuthenticationHeaderAsync"/> gave: the next call looks for a newer one.
    /// </summary>
    void Rejected(AuthenticationHeaderValue? header);
}

/// <summary>A token in a file that somebody else renews, as the kubelet does: read again each minute, and after a 401.</summary>
public sealed class TokenFile(string path, TimeProvider? time = null) : IRenewedTokenProvider
{
    private static readonly TimeSpan MaxAge = TimeSpan.FromMinutes(1);
    private readonly TimeProvider _time = time ?? TimeProvider.System;
    private readonly Lock _lock = new();
    private AuthenticationHeaderValue? _header;
    private long _readAt;

    /// <inheritdoc/>
    public Task<AuthenticationHeaderValue> GetAuthenticationHeaderAsync(CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            if (_header is null || _time.GetElapsedTime(_readAt) > MaxAge)
            {
                string token = File.ReadAllText(path).Trim();
                if (token.Length == 0)
                    throw new KubeconfigException($"Token file {path} is empty.");
                if (token != _header?.Parameter)
                    _header = new AuthenticationHeaderValue("Bearer", token);
                _readAt = _time.GetTimestamp();
            }

            return Task.FromResult(_header);
        }
    }

    /// <inheritdoc/>
    public void Rejected(AuthenticationHeaderValue? header)
    {
        lock (_lock)
        {
            if (ReferenceEquals(header, _header))
                _header = null;
        }
    }
}
