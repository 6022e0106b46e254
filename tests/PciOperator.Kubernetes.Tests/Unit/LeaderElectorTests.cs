using System.Globalization;
using k8s.Models;
using PciOperator.Testing;

namespace PciOperator.Kubernetes.Tests.Unit;

public sealed class LeaderElectorTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);
    private readonly FakeTimeProvider _time = new();
    private readonly LeaseServer _server = new();

    private static LeaseLock Lock(string identity) =>
        new()
        {
            Namespace = "ns",
            Name = "leader",
            Identity = identity,
        };

    private Candidate Start(string identity) =>
        new(new LeaderElector(_server.ClientOf(identity), Lock(identity), _time, random: new Random(1)));

    /// <summary>Moves the clock in small steps, and lets everything run that waits for it after each.</summary>
    private async Task PassAsync(SingleThread thread, TimeSpan time, Func<bool>? until = null)
    {
        for (TimeSpan passed = TimeSpan.Zero; passed < time && until?.Invoke() != true; passed += TimeSpan.FromMilliseconds(100))
        {
            _time.Advance(TimeSpan.FromMilliseconds(100));
            await thread.SettleAsync();
        }
    }

    [Fact]
    public void The_first_candidate_leads_and_renews() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            Assert.True(a.Elector.IsLeader);
            Assert.Equal("a", _server.Lease!.Spec!.HolderIdentity);
            Assert.Equal((15, 0), (_server.Lease.Spec.LeaseDurationSeconds, _server.Lease.Spec.LeaseTransitions));
            DateTime? first = _server.Lease.Spec.RenewTime;
            await PassAsync(thread, TimeSpan.FromMinutes(2));
            Assert.True(a.Elector.IsLeader);
            Assert.True(_server.Lease.Spec.RenewTime > first + TimeSpan.FromMinutes(1.9));
            Assert.Equal(0, _server.Lease.Spec.LeaseTransitions);
            Assert.False(a.Work.IsCancellationRequested);

            // An orderly stop lets the lease go at once.
            await a.StopAsync();
            Assert.Equal("", _server.Lease.Spec.HolderIdentity);
            Assert.False(a.Elector.IsLeader);
        });

    [Fact]
    public void Another_takes_over_only_after_the_whole_lease_and_the_old_leader_has_stopped_by_then() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            using Candidate b = Start("b");
            await PassAsync(thread, TimeSpan.FromSeconds(30));
            Assert.False(b.Leads);

            // a is cut off: its renewals fail from now on.
            _server.Fail("a");
            DateTimeOffset cut = _time.GetUtcNow();
            await PassAsync(thread, TimeSpan.FromSeconds(60), () => a.Work.IsCancellationRequested);
            TimeSpan stopped = _time.GetUtcNow() - cut;
            Assert.InRange(stopped, TimeSpan.FromSeconds(7.9), TimeSpan.FromSeconds(10.1));
            Assert.False(a.Elector.IsLeader);
            Assert.False(b.Leads);
            LeadershipLostException lost = await Assert.ThrowsAsync<LeadershipLostException>(() => a.Run.WaitAsync(Patience));
            Assert.False(lost.StillRunning);
            await PassAsync(thread, TimeSpan.FromSeconds(60), () => b.Leads);
            Assert.InRange(_time.GetUtcNow() - cut, TimeSpan.FromSeconds(13), TimeSpan.FromSeconds(19));
            Assert.Equal(("b", 1), (_server.Lease!.Spec!.HolderIdentity, _server.Lease.Spec.LeaseTransitions));
            await b.StopAsync();
        });

    [Fact]
    public void A_renewal_whose_answer_hangs_does_not_prolong_anything() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            await PassAsync(thread, TimeSpan.FromSeconds(10));
            // The server gets the renewals, but their answers never come back: what counts is the last that was answered.
            _server.Hang("a");
            DateTimeOffset cut = _time.GetUtcNow();
            await PassAsync(thread, TimeSpan.FromSeconds(60), () => a.Work.IsCancellationRequested);
            Assert.InRange(_time.GetUtcNow() - cut, TimeSpan.FromSeconds(7.9), TimeSpan.FromSeconds(10.1));
            await Assert.ThrowsAsync<LeadershipLostException>(() => a.Run.WaitAsync(Patience));
        });

    [Fact]
    public void Work_that_does_not_stop_is_reported_before_the_lease_can_be_taken() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            a.Stubborn = true;
            await a.LeadsAsync();
            _server.Fail("a");
            DateTimeOffset cut = _time.GetUtcNow();
            await PassAsync(thread, TimeSpan.FromSeconds(60), () => a.Run.IsCompleted);
            Assert.True(_time.GetUtcNow() - cut < TimeSpan.FromSeconds(15));
            LeadershipLostException lost = await Assert.ThrowsAsync<LeadershipLostException>(() => a.Run.WaitAsync(Patience));
            Assert.True(lost.StillRunning);
        });

    [Fact]
    public void A_lease_that_somebody_took_by_force_is_lost_at_the_next_renewal() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            _server.Overwrite(spec => spec with { HolderIdentity = "thief", LeaseTransitions = 7 });
            await PassAsync(thread, TimeSpan.FromSeconds(3), () => a.Run.IsCompleted);
            await Assert.ThrowsAsync<LeadershipLostException>(() => a.Run.WaitAsync(Patience));
            Assert.Equal("thief", _server.Lease!.Spec!.HolderIdentity);
        });

    [Fact]
    public void Short_trouble_is_no_loss_and_somebodys_label_is_no_conflict() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            _server.Fail("a");
            await PassAsync(thread, TimeSpan.FromSeconds(5));
            _server.Heal("a");
            await PassAsync(thread, TimeSpan.FromSeconds(20));
            Assert.True(a.Elector.IsLeader);
            _server.Overwrite(spec => spec);
            await PassAsync(thread, TimeSpan.FromSeconds(20));
            Assert.True(a.Elector.IsLeader);
            await a.StopAsync();
        });

    [Fact]
    public void A_lease_with_ones_own_name_is_waited_for_like_any_other() =>
        SingleThread.Run(async thread =>
        {
            _server.Overwrite(_ => new V1LeaseSpec
            {
                HolderIdentity = "a",
                LeaseDurationSeconds = 15,
                RenewTime = _time.GetUtcNow().UtcDateTime - TimeSpan.FromHours(1),
                LeaseTransitions = 3,
            });
            using Candidate a = Start("a");
            await PassAsync(thread, TimeSpan.FromSeconds(14));
            Assert.False(a.Leads);
            await PassAsync(thread, TimeSpan.FromSeconds(10), () => a.Leads);
            await a.LeadsAsync();
            Assert.Equal(4, _server.Lease!.Spec!.LeaseTransitions);
            await a.StopAsync();
        });

    [Fact]
    public void The_lease_is_released_only_after_the_work_has_ended() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            a.Stubborn = true;
            await a.LeadsAsync();
            await a.Stop.CancelAsync();
            await PassAsync(thread, TimeSpan.FromSeconds(40));
            Assert.True(a.Work.IsCancellationRequested);
            // It still holds and renews the lease while it takes its time.
            Assert.Equal("a", _server.Lease!.Spec!.HolderIdentity);
            Assert.True(_server.Lease.Spec.RenewTime > _time.GetUtcNow().UtcDateTime - TimeSpan.FromSeconds(5));
            a.EndWork.SetResult();
            await PassAsync(thread, TimeSpan.FromSeconds(5), () => a.Run.IsCompleted);
            await a.Run.WaitAsync(Patience);
            Assert.Equal("", _server.Lease.Spec.HolderIdentity);
        });

    [Fact]
    public void Work_that_ends_or_fails_by_itself_releases_the_lease() =>
        SingleThread.Run(async thread =>
        {
            var elector = new LeaderElector(_server.ClientOf("a"), Lock("a"), _time);
            await elector.RunAsync(_ => Task.CompletedTask, CancellationToken.None).WaitAsync(Patience);
            Assert.Equal("", _server.Lease!.Spec!.HolderIdentity);
            InvalidOperationException error = await Assert.ThrowsAsync<InvalidOperationException>(() =>
                new LeaderElector(_server.ClientOf("b"), Lock("b"), _time)
                    .RunAsync(_ => throw new InvalidOperationException("work"), CancellationToken.None)
                    .WaitAsync(Patience)
            );
            Assert.Equal("work", error.Message);
            Assert.Equal("", _server.Lease!.Spec!.HolderIdentity);
        });

    [Fact]
    public void Times_that_make_no_sense_are_refused() =>
        Assert.Throws<ArgumentException>(() =>
            new LeaderElector(_server.ClientOf("a"), Lock("a") with { RenewDeadline = TimeSpan.FromSeconds(15) }, _time)
        );

    [Fact]
    public void Of_many_candidates_in_a_bad_network_never_two_lead() =>
        SingleThread.Run(async thread =>
        {
            for (int seed = 0; seed < 15; seed++)
            {
                var random = new Random(seed);
                var server = new LeaseServer();
                var time = new FakeTimeProvider();
                int working = 0;
                int led = 0;
                using var stop = new CancellationTokenSource();
                string[] names = ["a", "b", "c"];
                async Task CandidateAsync(string name, int n)
                {
                    while (!stop.IsCancellationRequested)
                    {
                        var elector = new LeaderElector(server.ClientOf(name), Lock($"{name}-{n++}"), time, random: new Random(seed));
                        try
                        {
                            await elector.RunAsync(
                                async ct =>
                                {
                                    Assert.Equal(1, ++working);
                                    led++;
                                    try
                                    {
                                        await Task.Delay(Timeout.InfiniteTimeSpan, time, ct);
                                    }
                                    finally
                                    {
                                        working--;
                                    }
                                },
                                stop.Token
                            );
                        }
                        catch (LeadershipLostException e)
                        {
                            Assert.False(e.StillRunning);
                        }
                        catch (OperationCanceledException)
                        {
                            // The work was told to stop.
                        }
                    }
                }

                var candidates = names.Select((name, i) => CandidateAsync(name, i * 100)).ToList();
                for (int step = 0; step < 600; step++)
                {
                    if (step % 40 == 0)
                    {
                        foreach (string name in names)
                        {
                            switch (random.Next(4))
                            {
                                case 0:
                                    server.Fail(name);
                                    break;
                                case 1:
                                    server.Hang(name);
                                    break;
                                default:
                                    server.Heal(name);
                                    break;
                            }
                        }
                    }

                    time.Advance(TimeSpan.FromMilliseconds(250));
                    await thread.SettleAsync();
                    Assert.InRange(working, 0, 1);
                }

                Assert.True(led > 0);
                await stop.CancelAsync();
                foreach (string name in names)
                    server.Heal(name);
                for (int i = 0; i < 200 && !candidates.All(c => c.IsCompleted); i++)
                {
                    time.Advance(TimeSpan.FromSeconds(1));
                    await thread.SettleAsync();
                }

                await Task.WhenAll(candidates).WaitAsync(Patience);
            }
        });

    [Theory]
    [InlineData(int.MaxValue, int.MaxValue, "9999-12-31T23:59:59.999999Z", 150)]
    [InlineData(0, -1, null, 15)]
    [InlineData(-2147483648, int.MinValue, "0001-01-01T00:00:00Z", 15)]
    [InlineData(60, 7, "2036-01-01T00:00:00Z", 60)]
    [InlineData(null, null, null, 15)]
    public void A_lease_with_absurd_values_is_another_s_for_a_while_and_then_taken(
        int? seconds,
        int? transitions,
        string? time,
        int honoured
    ) =>
        SingleThread.Run(async thread =>
        {
            DateTime? at = time is null ? null : DateTimeOffset.Parse(time, CultureInfo.InvariantCulture).UtcDateTime;
            _server.Overwrite(_ => new V1LeaseSpec
            {
                HolderIdentity = "nobody",
                LeaseDurationSeconds = seconds,
                LeaseTransitions = transitions,
                AcquireTime = at,
                RenewTime = at,
            });
            using Candidate a = Start("a");
            await PassAsync(thread, TimeSpan.FromSeconds(honoured - 1));
            Assert.False(a.Leads);
            await PassAsync(thread, TimeSpan.FromSeconds(5));
            await a.LeadsAsync();
            Assert.Equal(("a", 15), (_server.Lease!.Spec!.HolderIdentity, _server.Lease.Spec.LeaseDurationSeconds));
            Assert.InRange(_server.Lease.Spec.LeaseTransitions!.Value, 1, 8);
            await a.StopAsync();
        });

    [Fact]
    public void What_others_write_into_a_lease_that_is_held_is_gone_with_the_next_renewal() =>
        SingleThread.Run(async thread =>
        {
            using Candidate a = Start("a");
            await a.LeadsAsync();
            _server.Overwrite(spec =>
                spec with
                {
                    LeaseDurationSeconds = int.MaxValue,
                    AcquireTime = DateTime.MinValue,
                    RenewTime = DateTime.MaxValue,
                }
            );
            await PassAsync(thread, TimeSpan.FromSeconds(5));
            Assert.True(a.Elector.IsLeader);
            V1LeaseSpec spec = _server.Lease!.Spec!;
            Assert.Equal(15, spec.LeaseDurationSeconds);
            Assert.InRange(spec.AcquireTime!.Value, _time.GetUtcNow().UtcDateTime - TimeSpan.FromMinutes(1), _time.GetUtcNow().UtcDateTime);
            Assert.InRange(spec.RenewTime!.Value, _time.GetUtcNow().UtcDateTime - TimeSpan.FromSeconds(4), _time.GetUtcNow().UtcDateTime);
            await a.StopAsync();
        });

    private sealed class Candidate : IDisposable
    {
        private readonly TaskCompletionSource _leads = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Candidate(LeaderElector elector)
        {
            Elector = elector;
            Run = elector.RunAsync(WorkAsync, Stop.Token);
        }

        public LeaderElector Elector { get; }

        public CancellationTokenSource Stop { get; } = new();

        public TaskCompletionSource EndWork { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public bool Stubborn { get; set; }

        public Task Run { get; }

        public CancellationToken Work { get; private set; }

        public bool Leads => _leads.Task.IsCompleted;

        public Task LeadsAsync() => _leads.Task.WaitAsync(Patience);

        public async Task StopAsync()
        {
            await Stop.CancelAsync();
            await Run.WaitAsync(Patience);
        }

        private async Task WorkAsync(CancellationToken ct)
        {
            Work = ct;
            _leads.SetResult();
            if (Stubborn)
                await EndWork.Task;
            else
                await Task.Delay(Timeout.Infinite, ct);
        }

        public void Dispose() => Stop.Dispose();
    }

    /// <summary>One lease, with optimistic concurrency, and a network that fails or hangs for some clients.</summary>
    private sealed class LeaseServer
    {
        private readonly Dictionary<string, string> _trouble = [];
        private int _version;

        public V1Lease? Lease { get; private set; }

        public void Fail(string client) => Set(client, "fail");

        public void Hang(string client) => Set(client, "hang");

        public void Heal(string client) => Set(client, "");

        private void Set(string client, string trouble) => _trouble[client] = trouble;

        public IEntityClient ClientOf(string name) => new Client(this, name);

        public void Overwrite(Func<V1LeaseSpec, V1LeaseSpec> change) =>
            Store(
                new V1Lease
                {
                    Metadata = new V1ObjectMeta { Name = "leader", NamespaceProperty = "ns" },
                    Spec = change(Lease?.Spec ?? new V1LeaseSpec()),
                }
            );

        private V1Lease Store(V1Lease lease)
        {
            _version++;
            return Lease = lease with
            {
                Metadata = lease.Metadata with { ResourceVersion = _version.ToString(CultureInfo.InvariantCulture), Uid = "lease" },
            };
        }

        private sealed class Client(LeaseServer server, string name) : FakeClient
        {
            private async Task<T> CallAsync<T>(Func<T> call, CancellationToken ct)
            {
                await Task.Yield();
                ct.ThrowIfCancellationRequested();
                string? trouble = server._trouble.GetValueOrDefault(name);
                if (trouble == "fail")
                    throw new HttpRequestException("unreachable");
                T? result = call();
                if (trouble == "hang")
                    await Task.Delay(Timeout.Infinite, ct);
                return result;
            }

            public override Task<T?> GetAsync<T>(string name, string? ns = null, CancellationToken ct = default)
                where T : class => CallAsync(() => server.Lease as T, ct);

            public override Task<T> CreateAsync<T>(T obj, CancellationToken ct = default) =>
                CallAsync(
                    () => server.Lease is null ? (T)(object)server.Store((V1Lease)(object)obj) : throw Error(409, "AlreadyExists"),
                    ct
                );

            public override Task<T> UpdateAsync<T>(T obj, CancellationToken ct = default) =>
                CallAsync(
                    () =>
                        server.Lease?.Metadata.ResourceVersion == obj.Metadata.ResourceVersion
                            ? (T)(object)server.Store((V1Lease)(object)obj)
                            : throw Error(409, "Conflict"),
                    ct
                );
        }
    }
}
