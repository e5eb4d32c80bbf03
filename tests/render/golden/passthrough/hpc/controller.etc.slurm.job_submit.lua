-- Managed by hpcstate: changes made here are undone by the next deploy.
-- Nothing on this cluster sends mail (MailProg of slurm.conf): who asks for one is told so at once, and the job runs.
-- slurmctld calls these two and reads this file anew when it has changed (job_submit_plugins(7)).

local function without_mail(job)
   if (job.mail_type or 0) ~= 0 then
      slurm.log_user("this cluster sends no mail: --mail-type is without effect, the job is accepted")
      job.mail_type = 0
   end
   return slurm.SUCCESS
end

function slurm_job_submit(job, partitions, uid)
   return without_mail(job)
end

function slurm_job_modify(job, record, partitions, uid)
   return without_mail(job)
end
