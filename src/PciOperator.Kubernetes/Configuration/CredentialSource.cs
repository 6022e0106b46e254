using System.Security.Cryptography.X509Certificates;

namespace PciOperator.Kubernetes;

/// <summary>What a request is made with: a bearer token, a client certificate, or both.</summary>
public sealed record Credential(string? Token, X509Certificate2? ClientCertificate = null);

/// <summary>Where credentials come from that can change while the program runs.</summary>
public abstract class CredentialSource
{
    /// <summary>The credential to use now.</summary>
    public abstract ValueTask<Credential> GetAsync(CancellationToken ct);

    /// <summary>The server answered 401 to it: the next <see cref="GetAsync"/> looks for a newer one.</summary>
    public virtual void Rejected(Credential credential)
    {
    }

    /// <summary>Always the same token.</summary>
    public static CredentialSource FromToken(string token) => new StaticToken(token);

    /// <summary>A token in a file that somebody else renews, as the kubelet does: read again each minute, and after a 401.</summary>
    public static CredentialSource FromFile(string path, TimeProvider? time = null) => new TokenFile(path, time ?? TimeProvider.System);

    private sealed class StaticToken(string token) : CredentialSource
    {
        private readonly Credential _credential = new(token);

        public override ValueTask<Credential> GetAsync(CancellationToken ct) => new(_credential);
    }

    private sealed class TokenFile(string path, TimeProvider time) : CredentialSource
    {
        private static readonly TimeSpan s_maxAge = TimeSpan.FromMinutes(1);
        private readonly Lock _lock = new();
        private Credential? _credential;
        private long _readAt;

        public override ValueTask<Credential> GetAsync(CancellationToken ct)
        {
            lock (_lock)
            {
                if (_credential is null || time.GetElapsedTime(_readAt) > s_maxAge)
                {
                    var token = File.ReadAllText(path).Trim();
                    if (token.Length == 0)
                        throw new KubeconfigException($"Token file {path} is empty.");
                    if (token != _credential?.Token)
                        _credential = new Credential(token);
                    _readAt = time.GetTimestamp();
                }

                return new(_credential);
            }
        }

        public override void Rejected(Credential credential)
        {
            lock (_lock)
            {
                if (ReferenceEquals(credential, _credential))
                    _credential = null;
            }
        }
    }
}
